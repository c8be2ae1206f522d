// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

var (
	cluster *rest.Config
	direct  client.Client
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	server, err := kube.Start(scheme.Scheme)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cluster, direct = server.Config, server.Client
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// road is the connection to the API server, which can be cut.
type road struct {
	listener net.Listener
	target   string
	open     atomic.Bool
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

// newRoad returns a configuration that connects to the API server through it.
func newRoad(t *testing.T) (*road, *rest.Config) {
	t.Helper()
	target, err := url.Parse(cluster.Host)
	if err != nil {
		t.Fatal(err)
	}
	host := target.Host
	if host == "" {
		host = cluster.Host
	}
	r := &road{target: host, conns: map[net.Conn]bool{}}
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.open.Store(true)
	go r.serve()
	t.Cleanup(func() { _ = r.listener.Close(); r.cut() })
	settings := rest.CopyConfig(cluster)
	settings.Host = "https://" + r.listener.Addr().String()
	return r, settings
}

func (r *road) serve() {
	for {
		from, err := r.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", r.target)
		if err != nil || !r.keep(from, to) {
			_ = from.Close()
			if err == nil {
				_ = to.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
			}()
		}
	}
}

func (r *road) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open.Load() {
		return false
	}
	for _, c := range conns {
		r.conns[c] = true
	}
	return true
}

// cut ends all connections and refuses new ones until mend.
func (r *road) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open.Store(false)
	for c := range r.conns {
		_ = c.Close()
	}
	r.conns = map[net.Conn]bool{}
}

func (r *road) mend() { r.open.Store(true) }

func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := direct.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func write(t *testing.T, c client.Client, namespace, name, value string) error {
	t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{"value": value}}
	err := c.Create(t.Context(), object)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		err = c.Update(t.Context(), object)
	}
	return err
}

func open(t *testing.T, settings *rest.Config, namespace string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Config: settings, Scheme: scheme.Scheme, Namespace: namespace,
		Kinds: []client.Object{&corev1.ConfigMap{}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// value returns the named resource's value as last seen; empty: there is none.
func value(t *testing.T, s *Store, name string) string {
	t.Helper()
	object, found, err := Get[*corev1.ConfigMap](t.Context(), s, name)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return ""
	}
	return object.Data["value"]
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond) // the polling interval
	}
}

func TestFollowsItsNamespace(t *testing.T) {
	mine, other := namespace(t), namespace(t)
	for _, ns := range []string{mine, other} {
		if err := write(t, direct, ns, "a", "1"); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, cluster, mine)
	if err := s.WaitSynced(t.Context()); err != nil || !s.Synced() || s.Namespace() != mine {
		t.Fatal(err)
	}
	list, err := List[*corev1.ConfigMap](t.Context(), s)
	if err != nil || len(list) != 1 || list[0].Namespace != mine {
		t.Fatalf("%d resources %v", len(list), err)
	}
	list[0].Data["value"] = "changed by the caller"
	if got := value(t, s, "a"); got != "1" {
		t.Errorf("a caller changed the cache: %s", got)
	}
	if got := value(t, s, "b"); got != "" {
		t.Errorf("b is %s", got)
	}
	// A change is seen within a second and reported to its subscriber, and a write goes to the API server.
	var calls atomic.Int64
	if err := OnChange[*corev1.ConfigMap](t.Context(), s, func() { calls.Add(1) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the first call", func() bool { return calls.Load() > 0 })
	before := calls.Load()
	if err := write(t, s.Client(), mine, "b", "2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the write is seen", func() bool { return value(t, s, "b") == "2" && calls.Load() > before })
	before = calls.Load()
	if err := s.Client().Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: mine, Name: "b"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the deletion is seen", func() bool { return value(t, s, "b") == "" && calls.Load() > before })
}

// TestServesWithoutAPIServer checks that the cache remains, writes fail in time, and that it catches up by itself.
func TestServesWithoutAPIServer(t *testing.T) {
	ns := namespace(t)
	if err := write(t, direct, ns, "a", "1"); err != nil {
		t.Fatal(err)
	}
	way, settings := newRoad(t)
	s := open(t, settings, ns)
	if err := s.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	way.cut()
	if err := write(t, direct, ns, "a", "2"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if got := value(t, s, "a"); got != "1" || !s.Synced() {
			t.Fatalf("without the API server a is %q, synced %t", got, s.Synced())
		}
	}
	begin := time.Now()
	if err := write(t, s.Client(), ns, "b", "1"); err == nil || time.Since(begin) > requestTimeout+5*time.Second {
		t.Errorf("a write without the API server: %v after %s", err, time.Since(begin))
	}
	way.mend()
	eventually(t, 60*time.Second, "it catches up", func() bool { return value(t, s, "a") == "2" })
}

// TestStartsWithoutAPIServer checks that nothing waits, and that the empty cache fills once the API server responds.
func TestStartsWithoutAPIServer(t *testing.T) {
	ns := namespace(t)
	if err := write(t, direct, ns, "a", "1"); err != nil {
		t.Fatal(err)
	}
	way, settings := newRoad(t)
	way.cut()
	begin := time.Now()
	s := open(t, settings, ns)
	list, err := List[*corev1.ConfigMap](t.Context(), s)
	if err != nil || len(list) != 0 || s.Synced() || value(t, s, "a") != "" {
		t.Errorf("%d resources, synced %t, %v", len(list), s.Synced(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.WaitSynced(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	way.mend()
	eventually(t, 60*time.Second, "it fills", func() bool { return s.Synced() && value(t, s, "a") == "1" })
}

func TestOpenRefuses(t *testing.T) {
	good := Options{Config: cluster, Scheme: scheme.Scheme, Namespace: "x", Kinds: []client.Object{&corev1.ConfigMap{}}, Log: slog.New(slog.DiscardHandler)}
	nowhere := good
	nowhere.Namespace = ""
	if _, err := Open(t.Context(), nowhere); err == nil {
		t.Error("it opened every namespace")
	}
	s, err := Open(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := List[*corev1.Secret](t.Context(), s); err == nil {
		t.Error("it lists what it does not watch")
	}
	if _, _, err := Get[*corev1.Secret](t.Context(), s, "a"); err == nil {
		t.Error("it gets what it does not watch")
	}
	if err := OnChange[*corev1.Secret](t.Context(), s, func() {}); err == nil {
		t.Error("it reports changes of what it does not watch")
	}
}

// TestMapping checks that the mapping of our kinds agrees with the API server's, without discovery.
func TestMapping(t *testing.T) {
	for kind, want := range map[string]string{"Secret": "secrets", "AccessPolicy": "accesspolicies", "NotificationChannel": "notificationchannels"} {
		if plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: "vault.itechsmart.dev", Version: "v1alpha1", Kind: kind}); plural.Resource != want {
			t.Errorf("%s is %s, want %s", kind, plural.Resource, want)
		}
	}
}

func TestReview(t *testing.T) {
	const audience = "https://platform.team-a"
	ns := namespace(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "app"}}
	if err := direct.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	tokenFor := func(audience string) string {
		t.Helper()
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
		if err := direct.SubResource("token").Create(t.Context(), account, request); err != nil {
			t.Fatal(err)
		}
		return request.Status.Token
	}
	way, settings := newRoad(t)
	reviewer, err := NewReviewer(settings)
	if err != nil {
		t.Fatal(err)
	}
	good := tokenFor(audience)
	gotNamespace, gotName, err := reviewer.Review(t.Context(), good, audience)
	if err != nil || gotNamespace != ns || gotName != "app" {
		t.Errorf("%s/%s %v", gotNamespace, gotName, err)
	}
	for name, token := range map[string]string{"another audience": tokenFor("https://other"), "nonsense": "a.b.c", "empty": "", "cut": good[:len(good)-3]} {
		if _, _, err := reviewer.Review(t.Context(), token, audience); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	way.cut()
	if _, _, err := reviewer.Review(t.Context(), good, audience); err == nil || errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("without the API server: %v", err)
	}
	way.mend()
	if _, _, err := reviewer.Review(t.Context(), good, audience); err != nil {
		t.Error(err)
	}
	if err := direct.Delete(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	// The API server itself caches a token for some seconds.
	eventually(t, 60*time.Second, "a deleted ServiceAccount's token is refused", func() bool {
		_, _, err := reviewer.Review(t.Context(), good, audience)
		return errors.Is(err, auth.ErrInvalidToken)
	})
}
