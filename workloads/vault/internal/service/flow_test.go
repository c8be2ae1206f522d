// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// The steps of the guide: register, token, write, read, diff, rotate, and the audit log records all of them.
func TestFlow(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	const user, password = "ada@example.com", "Engine-1843"
	registered := must[struct {
		ID string `json:"id"`
	}](r, http.StatusCreated, "", "POST", "/register", map[string]string{"email": user, "password": password})
	token := r.Login(user, password)

	// Without a grant nothing is visible.
	if a := r.Call(token, "POST", "/secrets", write("db/password", "x")); a.Status != http.StatusForbidden {
		t.Fatalf("a write without a role: %d %s", a.Status, a.Body)
	}
	if a := r.Call("", "GET", "/secrets", nil); a.Status != http.StatusUnauthorized {
		t.Fatalf("a list without a login: %d %s", a.Status, a.Body)
	}
	must[any](r, http.StatusOK, r.Admin, "PUT", "/users/"+registered.ID+"/grants", map[string]any{
		"grants": []map[string]string{{"product": productName, "namespace": namespace, "role": "editor"}},
	})
	token = r.Login(user, password)

	created := must[wire.Secret](r, http.StatusCreated, token, "POST", "/secrets", write("db/password", "one"))
	if created.Version != 1 || created.Namespace != namespace || created.Path != "db/password" {
		t.Fatalf("created %+v", created)
	}
	if a := r.Call(token, "POST", "/secrets", write("db/password", "again")); a.Status != http.StatusConflict {
		t.Errorf("a second create: %d %s", a.Status, a.Body)
	}
	put := r.Call(token, "PUT", "/secrets/db%2Fpassword", value("two"), "If-Match", `"1"`)
	if put.Status != http.StatusOK || put.Header.Get("ETag") != `"2"` {
		t.Fatalf("put: %d %s, ETag %s", put.Status, put.Body, put.Header.Get("ETag"))
	}
	if a := r.Call(token, "PUT", "/secrets/db%2Fpassword", value("three"), "If-Match", `"1"`); a.Status != http.StatusPreconditionFailed {
		t.Errorf("a stale put: %d %s", a.Status, a.Body)
	}
	read := r.Call(token, "GET", "/secrets/db%2Fpassword/value", nil)
	if read.Status != http.StatusOK || read.Header.Get("Cache-Control") != "no-store" || !bytes.Contains(read.Body, []byte(encoded("two"))) {
		t.Fatalf("read: %d %s", read.Status, read.Body)
	}
	if old := must[wire.Read](r, 200, token, "GET", "/secrets/db%2Fpassword/value?version=1", nil); string(old.Value[wire.FieldText]) != "one" {
		t.Errorf("version 1 reads %q", old.Value[wire.FieldText])
	}
	diff := must[[]wire.FieldDiff](r, 200, token, "GET", "/secrets/db%2Fpassword/diff?from=1&to=2", nil)
	if len(diff) != 1 || diff[0].Change != "changed" || diff[0].From == diff[0].To || strings.Contains(diff[0].From, "one") {
		t.Errorf("diff %+v", diff)
	}
	if back := must[wire.Secret](r, 200, token, "POST", "/secrets/db%2Fpassword/rollback", map[string]int{"version": 1}); back.Version != 3 {
		t.Errorf("rolled back to %+v", back)
	}
	if a := r.Call(token, "POST", "/secrets/db%2Fpassword/rotate", nil); a.Status != 422 || a.Refusal(t).Code != "not_generated" {
		t.Errorf("rotate a written secret: %d %s", a.Status, a.Body)
	}
	generated := wire.Apply{Type: wire.TypeAPIKey, Name: "api", SourceHash: "h1", Generate: &wire.Generate{Length: 40, Prefix: "sk_"}}
	if a := r.Call(token, "POST", "/secrets/api/apply", generated); a.Status != http.StatusForbidden {
		t.Errorf("apply as an editor: %d %s", a.Status, a.Body)
	}
	applied := must[wire.Applied](r, 200, r.Admin, "POST", "/secrets/api/apply", generated)
	again := must[wire.Applied](r, 200, r.Admin, "POST", "/secrets/api/apply", generated)
	if !applied.Changed || again.Changed || again.Version != 1 {
		t.Errorf("applied %+v, again %+v", applied, again)
	}
	if rotated := must[wire.Secret](r, 200, token, "POST", "/secrets/api/rotate", nil); rotated.Version != 2 {
		t.Errorf("rotated %+v", rotated)
	}
	r.versionsAndPages(token)
	r.auditHolds(t)
}

// versionsAndPages deletes, restores and destroys, and follows cursors.
func (r *running) versionsAndPages(token string) {
	t := r.T
	t.Helper()
	must[any](r, http.StatusNoContent, token, "DELETE", "/secrets/db%2Fpassword/versions/3", nil)
	if a := r.Call(token, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != http.StatusGone || a.Refusal(t).Code != "deleted" {
		t.Errorf("a deleted version reads %d %s", a.Status, a.Body)
	}
	must[any](r, http.StatusNoContent, token, "POST", "/secrets/db%2Fpassword/versions/3/undelete", nil)
	must[any](r, http.StatusNoContent, token, "POST", "/secrets/db%2Fpassword/versions/2/destroy", nil)
	if a := r.Call(token, "GET", "/secrets/db%2Fpassword/value?version=2", nil); a.Status != http.StatusGone || a.Refusal(t).Code != "destroyed" {
		t.Errorf("a destroyed version reads %d %s", a.Status, a.Body)
	}
	var numbers []int64
	for cursor := ""; ; {
		page := must[wire.Page[wire.Version]](r, 200, token, "GET", "/secrets/db%2Fpassword/versions?limit=2&cursor="+url.QueryEscape(cursor), nil)
		for _, v := range page.Items {
			numbers = append(numbers, v.Version)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
		if a := r.Call(token, "GET", "/secrets/api/versions?cursor="+url.QueryEscape(cursor), nil); a.Status != http.StatusBadRequest {
			t.Errorf("a cursor of another list: %d", a.Status)
		}
	}
	if len(numbers) != 3 || numbers[0] != 3 || numbers[2] != 1 {
		t.Errorf("versions %v", numbers)
	}
	page := must[wire.Page[wire.Secret]](r, 200, token, "GET", "/secrets?limit=1", nil)
	next := must[wire.Page[wire.Secret]](r, 200, token, "GET", "/secrets?limit=1&cursor="+url.QueryEscape(page.Next), nil)
	if len(page.Items) != 1 || page.Items[0].Path != "api" || len(next.Items) != 1 || next.Items[0].Path != "db/password" || next.Next != "" {
		t.Errorf("pages %+v and %+v", page, next)
	}
	must[any](r, http.StatusNoContent, token, "DELETE", "/secrets/db%2Fpassword?destroy=true", nil)
	if a := r.Call(token, "GET", "/secrets/db%2Fpassword", nil); a.Status != http.StatusNotFound {
		t.Errorf("a destroyed secret: %d %s", a.Status, a.Body)
	}
}

// auditHolds checks the content of the audit log, and that its export verifies offline.
func (r *running) auditHolds(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	r.Wait("the audit log to hold the last event", func() bool {
		page := must[wire.Page[audit.Entry]](r, 200, r.Admin, "GET", "/audit?limit=500", nil)
		for _, e := range page.Items {
			seen[e.User+" "+e.Action+" "+e.Object+" "+e.Outcome] = true
			if e.IP != "127.0.0.1" && e.User != "system" || e.Time.IsZero() || (strings.HasPrefix(e.Action, "secret.") && (e.UserAgent == "" || e.RequestID == "")) {
				t.Fatalf("an event is incomplete: %+v", e)
			}
		}
		return seen["ada@example.com secret.destroy secret/db/password allowed"]
	})
	for _, want := range []string{
		"ada@example.com secret.create secret/db/password denied",
		"ada@example.com secret.create secret/db/password@1 allowed",
		"ada@example.com secret.create secret/db/password failed",
		"ada@example.com secret.write secret/db/password@2 allowed",
		"ada@example.com secret.write secret/db/password failed",
		"ada@example.com secret.read secret/db/password@2 allowed",
		"ada@example.com secret.read secret/db/password@1 allowed",
		"ada@example.com secret.rollback secret/db/password@3 allowed",
		"root@example.com secret.apply secret/api@1 allowed",
		"ada@example.com secret.apply secret/api denied",
		"ada@example.com secret.rotate secret/api@2 allowed",
		"ada@example.com version.delete secret/db/password@3 allowed",
		"ada@example.com version.destroy secret/db/password@2 allowed",
	} {
		if !seen[want] {
			t.Errorf("the audit log lacks %q", want)
		}
	}
	key := must[auditlog.Key](r, 200, r.Admin, "GET", "/audit/key", nil)
	export := r.Call(r.Admin, "GET", "/audit/export", nil)
	report, err := audit.Verify(bytes.NewReader(export.Body), key.PublicKey)
	if err != nil || report.Events < 15 {
		t.Errorf("the export: %+v, %v", report, err)
	}
	changed := bytes.Replace(export.Body, []byte("secret.destroy"), []byte("secret.get"), 1)
	if _, err := audit.Verify(bytes.NewReader(changed), key.PublicKey); err == nil {
		t.Error("a changed export verifies")
	}
}

func value(text string) wire.Write {
	return wire.Write{Type: wire.TypeText, Value: wire.Value{wire.FieldText: []byte(text)}}
}

func write(path, text string) any {
	return struct {
		Path string `json:"path"`
		wire.Write
	}{path, value(text)}
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
