// SPDX-License-Identifier: Apache-2.0

package signingkeys

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// keyLife plays the life of keys: each step is a time and whether replicas verify what was published.
type keyLife struct {
	t      *testing.T
	keys   []Key
	policy Policy
	now    time.Time
	made   int
}

func newKeyLife(t *testing.T) *keyLife {
	l := &keyLife{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	l.policy = Policy{Algorithm: "HS256", Interval: 30 * 24 * time.Hour, Tokens: 24 * time.Hour}
	return l
}

// step advances the clock, and returns whether the keys changed and when the next step is due.
func (l *keyLife) step(after time.Duration, published bool) (bool, time.Duration) {
	l.t.Helper()
	l.now = l.now.Add(after)
	l.policy.Published = func(string) bool { return published }
	next, changed, due, err := Next(l.keys, l.policy, l.now, func(algorithm string) (Key, error) {
		l.made++
		return Key{ID: fmt.Sprint(l.made), Algorithm: algorithm, Secret: "s"}, nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.keys = next
	return changed, due
}

// expect compares with ids: the first signs, + is published, - verifies only.
func (l *keyLife) expect(want string) {
	l.t.Helper()
	var got []string
	for i, key := range l.keys {
		switch {
		case key.Until != nil:
			got = append(got, "-"+key.ID)
		case key.Since == nil:
			got = append(got, "+"+key.ID)
		default:
			if i != 0 {
				l.t.Errorf("key %s signs and is not the first", key.ID)
			}
			got = append(got, key.ID)
		}
	}
	if text := strings.Join(got, " "); text != want {
		l.t.Fatalf("at %s: keys %q, want %q", l.now.Format(time.RFC3339), text, want)
	}
}

func TestKeysRotateWithoutLoggingAnybodyOut(t *testing.T) {
	l := newKeyLife(t)
	day := 24 * time.Hour
	if changed, due := l.step(0, false); !changed || due != 30*day {
		t.Errorf("first: %t, due in %s", changed, due)
	}
	l.expect("1")
	if changed, due := l.step(29*day, true); changed || due != day {
		t.Errorf("nothing is due: %t, %s", changed, due)
	}
	if changed, due := l.step(day, true); !changed || due != 0 {
		t.Errorf("published: %t, due in %s; a rollout is awaited", changed, due)
	}
	l.expect("1 +2")
	if changed, _ := l.step(day, false); changed {
		t.Error("a key signs that not every replica verifies")
	}
	l.expect("1 +2")
	if changed, due := l.step(time.Minute, true); !changed || due != day+keyMargin {
		t.Errorf("promoted: %t, due in %s", changed, due)
	}
	l.expect("2 -1")
	if changed, _ := l.step(day, true); changed {
		t.Error("a key went before its tokens")
	}
	if changed, _ := l.step(keyMargin, true); !changed {
		t.Error("a key outlives its tokens")
	}
	l.expect("2")
}

func TestKeysChangeTheirAlgorithm(t *testing.T) {
	l := newKeyLife(t)
	l.step(0, true)
	l.policy.Algorithm = "RS256"
	l.step(time.Minute, true)
	l.expect("1 +2")
	// Chosen back before the new key signed anything: it is dropped.
	l.policy.Algorithm = "HS256"
	l.step(time.Minute, false)
	l.expect("1")
	l.policy.Algorithm = "RS256"
	l.step(time.Minute, false)
	l.step(time.Minute, true)
	l.expect("3 -1")
	if l.keys[0].Algorithm != "RS256" {
		t.Errorf("algorithm %s", l.keys[0].Algorithm)
	}
}

func TestKeysWithoutRotationStay(t *testing.T) {
	l := newKeyLife(t)
	l.policy.Interval = 0
	l.step(0, true)
	if changed, due := l.step(10*365*24*time.Hour, true); changed || due != 0 {
		t.Errorf("%t, due in %s", changed, due)
	}
	l.expect("1")
}

func TestGeneratedKeys(t *testing.T) {
	hs, err := Generate("HS256")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(hs.Secret); err != nil || len(raw) != 32 {
		t.Errorf("HS256: %d bytes, %v", len(raw), err)
	}
	rs, err := Generate("RS256")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(rs.Secret))
	if block == nil {
		t.Fatal("RS256: no PEM")
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		t.Error(err)
	}
	if hs.ID == rs.ID || len(hs.ID) != 16 {
		t.Errorf("ids %q, %q", hs.ID, rs.ID)
	}
}

func TestKeysInTheSecret(t *testing.T) {
	since := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := []Key{{ID: "b", Algorithm: "HS256", Secret: "canary-b", Since: &since}, {ID: "a", Algorithm: "HS256", Secret: "canary-a", Until: &since}}
	data, err := Encode(keys)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(&corev1.Secret{Data: data})
	if err != nil || !reflect.DeepEqual(got, keys) {
		t.Errorf("got %d keys, %v", len(got), err)
	}
	for name, text := range map[string]string{"not JSON": "canary", "no key": "[]", "a broken key": `[{"id": 7, "secret": "canary"}]`} {
		_, err := Decode(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-signing-keys"}, Data: map[string][]byte{DataKey: []byte(text)}})
		var stalled *reconcile.Terminal
		if !errors.As(err, &stalled) || !strings.Contains(stalled.Message, "Secret main-signing-keys") || strings.Contains(stalled.Message, "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
