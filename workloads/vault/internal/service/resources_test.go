// SPDX-License-Identifier: Apache-2.0

package service

import (
	"log/slog"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
)

// Of two Secrets with one path the older has it, and of two created in the same second the one with the smaller UID: as
// in the controller, regardless of their names and the order of the list.
func TestOlderSecretHasThePath(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	secret := func(name, uid string, created metav1.Time) *vaultv1.Secret {
		return &vaultv1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), CreationTimestamp: created}, Spec: vaultv1.SecretSpec{Path: "db/password"}}
	}
	later := metav1.NewTime(now.Add(time.Second))
	for name, c := range map[string]struct{ winner, loser *vaultv1.Secret }{
		"older":           {secret("b", "2", now), secret("a", "1", later)},
		"the same second": {secret("b", "1", now), secret("a", "2", now)},
	} {
		for _, order := range [][]*vaultv1.Secret{{c.winner, c.loser}, {c.loser, c.winner}} {
			s := &seen{byPath: map[string]*vaultv1.Secret{}}
			for _, one := range order {
				s.add(one)
			}
			if got := s.byPath["db/password"]; got != c.winner {
				t.Errorf("%s: %s has the path", name, got.Name)
			}
		}
	}
}

// Without an API server there is nothing to read, which is known at once.
func TestNoAPIServer(t *testing.T) {
	r := NewResources(nil, "main", slog.New(slog.DiscardHandler))
	var policies []vaultv1.AccessPolicy
	calls := 0
	r.onChange(func(p []vaultv1.AccessPolicy, _ []vaultv1.Secret) { policies, calls = p, calls+1 })
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	if !r.WaitSeen(t.Context()) || calls != 1 || len(policies) != 0 {
		t.Errorf("%d calls, %d policies", calls, len(policies))
	}
	select {
	case err := <-ended:
		t.Errorf("it ended before its context: %v", err)
	default:
	}
}
