// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

func TestRetriesBackOff(t *testing.T) {
	var got []string
	for failures := range 8 {
		got = append(got, retryAfter(failures).String())
	}
	if s := strings.Join(got, " "); s != "1s 5s 10s 20s 40s 1m0s 1m0s 1m0s" {
		t.Error(s)
	}
	if retryAfter(1000) != lastRetry {
		t.Error("it overflows")
	}
}

func TestOneLoginAtATimeAndOnePerBinding(t *testing.T) {
	begun, release := make(chan string, 10), make(chan struct{})
	p := newProber(func(_ context.Context, _ string, b backend.Binding) (string, error) {
		begun <- b.Host
		<-release
		return "1", nil
	}, time.Hour)
	key := probeKey{backend: "redis"}
	first, second := backend.Binding{Host: "a"}, backend.Binding{Host: "b"}
	for range 3 {
		if result, due := p.check(key, first); result.known || due != 0 {
			t.Errorf("%v %v before the login ended", result, due)
		}
	}
	if host := <-begun; host != "a" {
		t.Errorf("logged in at %s", host)
	}
	// Another binding is another question; the answer to the first must not pass for it.
	p.check(key, second)
	if host := <-begun; host != "b" {
		t.Errorf("logged in at %s", host)
	}
	close(release)
	<-p.wake
	<-p.wake
	result, due := p.check(key, second)
	if !result.known || result.version != "1" || due < 59*time.Minute || due > 67*time.Minute {
		t.Errorf("%v, next in %v", result, due)
	}
	if len(begun) != 0 {
		t.Error("a login more")
	}
	p.forget(key)
	if result, _ := p.check(key, second); result.known {
		t.Error("forgotten, and known")
	}
}

func TestExplanationsAreStableAndSilent(t *testing.T) {
	b := backend.Binding{Password: "hunter2"}
	for _, c := range []struct {
		err             error
		reason, message string
	}{
		{fmt.Errorf("%w: hunter2 is wrong", backend.ErrAuth), "AccessDenied", "access denied: *** is wrong"},
		{fmt.Errorf("bad: %w", backend.ErrInvalid), "InvalidSpec", "bad: invalid"},
		{errors.New("read tcp 10.1.2.3:40112->10.96.0.7:9092: i/o timeout"), "BackendUnavailable", "read tcp 10.96.0.7:9092: i/o timeout"},
		{errors.New("read tcp [fd00::1]:40112->[fd00::2]:9092: i/o timeout"), "BackendUnavailable", "read tcp [fd00::2]:9092: i/o timeout"},
	} {
		if reason, message := explain(c.err, b); reason != c.reason || message != c.message {
			t.Errorf("%v: %s %q", c.err, reason, message)
		}
	}
}
