// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/config"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// apiServer returns a real API server, and a namespace of it.
func apiServer(t *testing.T) (*kube.Server, string) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{vaultv1.AddToScheme, corev1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	server, err := kube.Start(scheme)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server, server.Namespace(t, "vault")
}

// door sits between the service and the API server; shut, it simulates an outage.
type door struct {
	mu     sync.Mutex
	target string
	shut   bool
	open   map[net.Conn]bool
}

func newDoor(t *testing.T, settings *rest.Config) (*door, *rest.Config) {
	t.Helper()
	u, err := url.Parse(settings.Host)
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	if target == "" {
		target = settings.Host
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	d := &door{target: target, open: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.pass(c)
		}
	}()
	through := rest.CopyConfig(settings)
	through.Host = "https://" + listener.Addr().String()
	return d, through
}

func (d *door) pass(c net.Conn) {
	defer c.Close()
	d.mu.Lock()
	if d.shut {
		d.mu.Unlock()
		return
	}
	d.open[c] = true
	d.mu.Unlock()
	out, err := net.Dial("tcp", d.target)
	if err != nil {
		return
	}
	defer out.Close()
	go func() { _, _ = io.Copy(out, c); _ = out.Close() }()
	_, _ = io.Copy(c, out)
	d.mu.Lock()
	delete(d.open, c)
	d.mu.Unlock()
}

func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	if shut {
		for c := range d.open {
			_ = c.Close()
		}
	}
}

func TestWithKubernetes(t *testing.T) {
	server, namespace := apiServer(t)
	c := server.Client
	d, through := newDoor(t, server.Config)
	settings := settingsOn(t, servers.Postgres(t))
	settings.Namespace = namespace
	settings.Auth.ServiceAccounts = []config.ServiceAccount{{Name: namespace + "/app", Role: "editor"}}
	r := start(t, settings, through)
	editor, bob := r.Register("editor@example.com", "editor"), r.Register("bob@example.com", "")

	resource := func(name string) *vaultv1.Secret {
		var s vaultv1.Secret
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
			if !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			return nil
		}
		return &s
	}
	noted := func(name, version string) func() bool {
		return func() bool {
			s := resource(name)
			return s != nil && s.Annotations[vaultv1.AnnotationVersion] == version
		}
	}

	t.Run("a create over REST writes the resource, a write records the version", func(t *testing.T) {
		must[wire.Secret](r, 201, editor, "POST", "/secrets", write("db/password", "one"))
		s := resource("db.password")
		if s == nil || s.Spec.Source.External == nil || s.StorePath() != "db/password" || s.Spec.Type != "Text" || !noted("db.password", "1")() {
			t.Fatalf("resource %+v", s)
		}
		must[wire.Secret](r, 200, editor, "PUT", "/secrets/db%2Fpassword", value("two"))
		r.Wait("version 2 to be recorded", noted("db.password", "2"))
		must[wire.Secret](r, 201, editor, "POST", "/secrets", write("db.password", "its name is taken"))
		must[wire.Secret](r, 201, editor, "POST", "/secrets", write("team/under_score", "not a valid name"))
		for _, path := range []string{"db.password", "team/under_score"} {
			r.Wait("the resource of "+path, func() bool { s := resource(uniqueName(path)); return s != nil && s.StorePath() == path })
		}
		must[any](r, 204, editor, "DELETE", "/secrets/team%2Funder_score?destroy=true", nil)
		r.Wait("the resource to go with its value", func() bool { return resource(uniqueName("team/under_score")) == nil })
	})

	t.Run("a resource that declares its value is not overwritten", func(t *testing.T) {
		s := &vaultv1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "declared"}, Spec: vaultv1.SecretSpec{
			Type: "Text", Source: vaultv1.Source{Generate: &vaultv1.Generate{}},
		}}
		if err := c.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		r.Wait("the refusal", func() bool {
			a := r.Call(editor, "POST", "/secrets", write("declared", "x"))
			if a.Status == 201 {
				must[any](r, 204, editor, "DELETE", "/secrets/declared?destroy=true", nil)
				return false
			}
			return a.Status == 409 && a.Refusal(t).Code == "declared"
		})
	})

	t.Run("policies by REST are resources, deny wins", func(t *testing.T) {
		must[Policy](r, 201, r.Admin, "POST", "/policies", `{"name":"team","subjects":[{"kind":"User","name":"bob@example.com"}],
			"rules":[{"paths":["db/*"],"verbs":["read","list"],"when":"request.ip == '127.0.0.1'"}]}`)
		r.Wait("bob to read", func() bool { return r.Call(bob, "GET", "/secrets/db%2Fpassword/value", nil).Status == 200 })
		if a := r.Call(bob, "PUT", "/secrets/db%2Fpassword", value("x")); a.Status != 403 {
			t.Errorf("bob writes: %d", a.Status)
		}
		page := must[wire.Page[wire.Secret]](r, 200, bob, "GET", "/secrets", nil)
		if len(page.Items) != 1 || page.Items[0].Path != "db/password" {
			t.Errorf("bob sees %+v", page.Items)
		}
		must[Policy](r, 201, r.Admin, "POST", "/policies", `{"name":"freeze","subjects":[{"kind":"User","name":"*"}],
			"rules":[{"paths":["db/**"],"verbs":["read"],"effect":"Deny","when":"principal.name != 'root@example.com'"}]}`)
		r.Wait("the denial", func() bool {
			return r.Call(bob, "GET", "/secrets/db%2Fpassword/value", nil).Status == 403 && r.Call(editor, "GET", "/secrets/db%2Fpassword/value", nil).Status == 403
		})
		if a := r.Call(r.Admin, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != 200 {
			t.Errorf("the administrator reads: %d %s", a.Status, a.Body)
		}
		bad := r.Call(r.Admin, "PUT", "/policies/freeze", `{"subjects":[{"kind":"User","name":"*"}],"rules":[{"paths":["a","**b"],"verbs":["read"],"when":"1 +"}]}`)
		refusal := bad.Refusal(t)
		if bad.Status != 422 || len(refusal.Details) != 2 || refusal.Details[0].Field != "body.rules[0].paths[1]" || refusal.Details[1].Field != "body.rules[0].when" {
			t.Errorf("a bad policy: %d %s", bad.Status, bad.Body)
		}
		must[any](r, 204, r.Admin, "DELETE", "/policies/freeze", nil)
		r.Wait("the denial to end", func() bool { return r.Call(bob, "GET", "/secrets/db%2Fpassword/value", nil).Status == 200 })
		if a := r.Call(bob, "GET", "/policies", nil); a.Status != 403 {
			t.Errorf("bob lists policies: %d", a.Status)
		}
	})

	t.Run("a Secret's own access list allows", func(t *testing.T) {
		s := resource(uniqueName("db.password"))
		s.Spec.Access = []vaultv1.AccessRule{{Subject: vaultv1.Subject{Kind: vaultv1.SubjectUser, Name: "bob@example.com"}, Verbs: []vaultv1.Verb{vaultv1.VerbWrite}}}
		if err := c.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		r.Wait("bob to write", func() bool { return r.Call(bob, "PUT", "/secrets/db.password", value("bob's")).Status == 200 })
		if a := r.Call(bob, "GET", "/secrets/db.password/value", nil); a.Status != 403 {
			t.Errorf("bob reads what he may only write: %d", a.Status)
		}
	})

	t.Run("a ServiceAccount's token", func(t *testing.T) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app"}}
		if err := c.Create(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{settings.Auth.Issuer}}}
		if err := c.SubResource("token").Create(t.Context(), account, request); err != nil {
			t.Fatal(err)
		}
		if a := r.Call(request.Status.Token, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != 200 {
			t.Errorf("read: %d %s", a.Status, a.Body)
		}
		other := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"https://elsewhere.example.com"}}}
		if err := c.SubResource("token").Create(t.Context(), account, other); err != nil {
			t.Fatal(err)
		}
		if a := r.Call(other.Status.Token, "GET", "/secrets", nil); a.Status != 401 {
			t.Errorf("a token for another audience: %d", a.Status)
		}
	})

	t.Run("without the API server values are served, and resources follow when it is back", func(t *testing.T) {
		d.set(true)
		for n := range 20 {
			if a := r.Call(editor, "PUT", "/secrets/db%2Fpassword", value(fmt.Sprint(n))); a.Status != 200 {
				t.Fatalf("write: %d %s", a.Status, a.Body)
			}
			if a := r.Call(editor, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != 200 {
				t.Fatalf("read: %d %s", a.Status, a.Body)
			}
		}
		must[wire.Secret](r, 201, editor, "POST", "/secrets", write("made/meanwhile", "x"))
		if a := r.Call(r.Admin, "POST", "/policies", `{"name":"p","subjects":[{"kind":"User","name":"a"}],"rules":[{"paths":["a"],"verbs":["read"]}]}`); a.Status != 503 {
			t.Errorf("a policy without an API server: %d %s", a.Status, a.Body)
		}
		if a := r.Call(bob, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != 200 {
			t.Errorf("the policies no longer apply: %d", a.Status)
		}
		if resource("made.meanwhile") != nil {
			t.Fatal("the API server is still reachable")
		}
		d.set(false)
		r.Wait("the new resource", noted("made.meanwhile", "1"))
		r.Wait("the newest version", noted("db.password", "22"))
	})
	if strings.Contains(r.Logs.String(), "panicked") {
		t.Error("a handler panicked")
	}
}
