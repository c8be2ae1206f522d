// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
)

// guillotine lets a number of writes through and nothing at all after the last of them, as a crash would: the
// controller does not even learn that it was made.
type guillotine struct {
	mu    sync.Mutex
	left  int
	fell  bool
	wrote []string
}

var errCrashed = errors.New("the manager has crashed")

func (g *guillotine) wrap(cfg *rest.Config) *rest.Config {
	out := rest.CopyConfig(cfg)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return transport(func(req *http.Request) (*http.Response, error) {
			write := req.Method != http.MethodGet && !strings.Contains(req.URL.Path, "/events")
			g.mu.Lock()
			if g.fell {
				g.mu.Unlock()
				return nil, errCrashed
			}
			last := false
			if write {
				g.left--
				g.wrote = append(g.wrote, req.Method+" "+req.URL.Path)
				last = g.left == 0
				g.fell = last
			}
			g.mu.Unlock()
			response, err := next.RoundTrip(req)
			if last && err == nil {
				_ = response.Body.Close()
				return nil, errCrashed
			}
			return response, err
		})
	})
	return out
}

func (g *guillotine) hasFallen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fell
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestCrashAfterEachWrite counts the writes that lead to Ready, and crashes after each of them in turn: a fresh manager
// converges, with the credentials that the first one made.
func TestCrashAfterEachWrite(t *testing.T) {
	_, cfg := ctrltest.Env(t)
	for n := 1; ; n++ {
		g := &guillotine{left: n}
		w := newWorldWith(t, g.wrap(cfg), ctrltest.Namespace(t))
		w.keepRunning()
		w.create(binding("elsewhere", map[string]string{"host": "a", "port": "1"}))
		w.create(newPlatform(v1alpha1.Backends{PostgreSQL: managedBackend(), Redis: externalAt("elsewhere")}))
		finished := func() bool { return w.platform("main").Status.Ready == "2/2" }
		w.Eventually(func() bool { return g.hasFallen() || finished() }).Should(BeTrue())
		w.stop()
		if !g.hasFallen() {
			if n < 10 {
				t.Errorf("only %d writes were seen: %v", n-1, g.wrote)
			}
			return
		}
		var before, after corev1.Secret
		made := w.get("main-postgresql-credentials", &before) == nil
		w.start(cfg)
		w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
		w.Expect(w.get("main-postgresql-credentials", &after)).To(Succeed())
		if made {
			w.Expect(after.Data).To(Equal(before.Data), "after write %d (%s) the credentials changed", n, g.wrote[n-1])
		}
		w.Expect(string(after.Data["password"])).To(Equal(w.logins.binding("postgresql").Password))
		w.stop()
	}
}
