// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// sign returns the headers of a signed call.
func sign(key, body string, at time.Time) []string {
	stamp := fmt.Sprint(at.Unix())
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(mac, stamp+"."+body)
	return []string{headerTimestamp, stamp, headerSignature, "sha256=" + hex.EncodeToString(mac.Sum(nil))}
}

const hmacKey = "0123456789abcdef0123456789abcdef"

const shopHook = `{
	"inputs": [{"name":"order","type":"integer","required":true},{"name":"agent"},{"name":"headers","type":"object"}],
	"triggers": [
		{"name":"shop","type":"Webhook","webhook":{"path":"shop/orders","auth":{"hmacSecretRef":{"name":"shop"}},"respond":"WaitForResult","maxPayloadBytes":2000},
		 "inputs":{"order":"${{ trigger.body.order }}","agent":"${{ trigger.headers['user-agent'] }}","headers":"${{ trigger.headers }}"}},
		{"name":"quick","type":"Webhook","webhook":{"path":"quick","auth":{"hmacSecretRef":{"name":"shop"}}},"inputs":{"order":"${{ trigger.body.size() }}"}},
		{"name":"team","type":"Webhook","webhook":{"path":"team"},"inputs":{"order":"${{ trigger.body.order }}"}}
	],
	"steps": [
		{"name":"check","type":"transform","with":{"value":"${{ inputs.order }}"}},
		{"name":"bad","needs":["check"],"when":"inputs.order < 0","type":"script","with":{"source":"fail('negative')"}}
	],
	"history": {"successful":0},
	"outputs": {"order":"${{ steps.check.output }}","agent":"${{ inputs.agent }}","headers":"${{ inputs.headers }}"}
}`

func TestWebhooks(t *testing.T) {
	r := up(t)
	if a := r.Call("", "POST", "/webhooks/shop/orders", `{"order":1}`); a.Status != 404 {
		t.Fatalf("missing webhook: %d %s", a.Status, a.Body)
	}
	r.put("shop", shopHook)
	const shop = "/webhooks/shop/orders"
	signed := func(path, body string, headers ...string) producttest.Response {
		t.Helper()
		return r.Call("", "POST", path, body, append(sign(hmacKey, body, time.Now()), headers...)...)
	}
	if a := signed(shop, `{"order":1}`); a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("without a key: %d %s", a.Status, a.Body)
	}
	key := func(key string) {
		r.bind(workerconfig.Bindings{Workflows: map[string]workerconfig.WorkflowBindings{"shop": {HMAC: map[string][]byte{"shop": []byte(key), "quick": []byte(key)}}}})
	}
	key(hmacKey)
	body := `{"order":41}`
	var first []string
	r.Wait("the key to be known", func() bool {
		first = sign(hmacKey, body, time.Now())
		return r.Call("", "POST", shop, body, first...).Status == 200
	})

	t.Run("a result", func(t *testing.T) {
		answer := signed(shop, `{"order":42}`, "User-Agent", "shop/1", "Cookie", "canary=1", "X-Shop", "blue")
		if answer.Status != 200 || !contains(answer.Body, `"order":42`) || !contains(answer.Body, `"agent":"shop/1"`) || !contains(answer.Body, `"x-shop":"blue"`) {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
		for _, secret := range []string{"canary", "signature", "x-timestamp"} {
			if contains(bytes.ToLower(answer.Body), secret) {
				t.Errorf("the headers contain %s: %s", secret, answer.Body)
			}
		}
		r.Wait("the audit log to have the caller", func() bool { return strings.Contains(r.Logs.String(), `"user":"webhook/shop/orders"`) })
	})

	t.Run("a replay", func(t *testing.T) {
		// The run of the first call is pruned when it ends; its signature is still rejected.
		if a := r.Call("", "POST", shop, body, first...); a.Status != 409 || a.Refusal(t).Code != "replayed" {
			t.Errorf("a replay: %d %s", a.Status, a.Body)
		}
		first[3] = "sha256=" + strings.ToUpper(first[3][7:])
		if a := r.Call("", "POST", shop, body, first...); a.Status != 409 {
			t.Errorf("a replay in capitals: %d %s", a.Status, a.Body)
		}
	})

	t.Run("wrong signatures", func(t *testing.T) {
		good := sign(hmacKey, body, time.Now())
		for name, headers := range map[string][]string{
			"none": nil, "another key": sign(hmacKey+"x", body, time.Now()), "another body": sign(hmacKey, `{"order":7}`, time.Now()),
			"old": sign(hmacKey, body, time.Now().Add(-signatureWindow-time.Minute)), "of the future": sign(hmacKey, body, time.Now().Add(signatureWindow+time.Minute)),
			"another time": {headerTimestamp, fmt.Sprint(time.Now().Unix() - 1), headerSignature, good[3]}, "no time": {headerSignature, good[3]},
			"no prefix": {headerTimestamp, good[1], headerSignature, good[3][7:]}, "no hex": {headerTimestamp, good[1], headerSignature, "sha256=zz"},
			"half": {headerTimestamp, good[1], headerSignature, good[3][:39]},
		} {
			if a := r.Call("", "POST", shop, body, headers...); a.Status != 401 || a.Refusal(t).Code != "unauthorized" {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
			}
		}
		if a := signed("/webhooks/shop", body); a.Status != 404 {
			t.Errorf("part of a path: %d %s", a.Status, a.Body)
		}
	})

	t.Run("too large", func(t *testing.T) {
		if a := signed(shop, `{"order":1,"x":"`+strings.Repeat("x", 2000)+`"}`); a.Status != 413 {
			t.Errorf("2,000 bytes and more: %d %s", a.Status, a.Body)
		}
		large := `{"order":"` + strings.Repeat("x", 10<<20) + `"}`
		for _, path := range []string{shop, "/webhooks/quick", "/webhooks/nowhere"} {
			request, err := http.NewRequestWithContext(t.Context(), "POST", r.URL+producttest.Base+path, io.MultiReader(strings.NewReader(large))) // of unknown length
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				continue // the connection was closed during the upload
			}
			answer.Body.Close()
			if answer.StatusCode != 413 {
				t.Errorf("10 MB to %s: %d", path, answer.StatusCode)
			}
		}
		if a, err := r.Try("", "POST", shop, large, sign(hmacKey, large, time.Now())...); err == nil && a.Status != 413 {
			t.Errorf("10 MB: %d %s", a.Status, a.Body)
		}
	})

	t.Run("wrong bodies", func(t *testing.T) {
		for _, body := range []string{`{"order":`, `{"order":"x"}`, `{}`, `[1e999]`, `{"order":1}{}`} {
			if a := signed(shop, body); a.Status != 422 || strings.Contains(string(a.Body), "1e999") {
				t.Errorf("%s: %d %s", body, a.Status, a.Body)
			}
		}
		if a := signed("/webhooks/quick", "abc\xff", "Content-Type", "text/plain"); a.Status != 422 {
			t.Errorf("no UTF-8: %d %s", a.Status, a.Body)
		}
	})

	t.Run("accepted", func(t *testing.T) {
		a := signed("/webhooks/quick", "abc", "Content-Type", "text/plain")
		if a.Status != 202 || !strings.HasPrefix(a.Header.Get("Location"), producttest.Base+"/runs/") {
			t.Errorf("text: %d %s", a.Status, a.Body)
		}
	})

	t.Run("a run that fails", func(t *testing.T) {
		if a := signed(shop, `{"order":-1}`); a.Status != 424 || a.Refusal(t).Code != "run_failed" {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	})

	t.Run("by a token", func(t *testing.T) {
		for token, want := range map[string]int{"": 401, r.viewer: 403, r.editor: 202} {
			if a := r.Call(token, "POST", "/webhooks/team", `{"order":1}`); a.Status != want {
				t.Errorf("%d %s, want %d", a.Status, a.Body, want)
			}
		}
		// A token does not replace a signature.
		if a := r.Call(r.Admin, "POST", shop, `{"order":1}`); a.Status != 401 {
			t.Errorf("a token instead of a signature: %d %s", a.Status, a.Body)
		}
		once := func() Hooked {
			return producttest.Must[Hooked](r.Running, 202, r.editor, "POST", "/webhooks/team", `{"order":1}`, "Idempotency-Key", "k")
		}
		if a, b := once(), once(); a.Run != b.Run {
			t.Errorf("one key, runs %s and %s", a.Run, b.Run)
		}
	})

	t.Run("rejected calls are counted", func(t *testing.T) {
		const want = 2 + 10 + 3 + 5 + 1 // replays, signatures, sizes, bodies, a token
		pool, err := db.Open(t.Context(), r.Settings.Database, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		var rejected int64
		r.Wait("the counts to be written", func() bool {
			err := pool.QueryRow(t.Context(), `SELECT rejected FROM triggers WHERE workflow = 'shop' AND trigger = 'shop'`).Scan(&rejected)
			return err == nil && rejected >= want
		})
		if rejected != want {
			t.Errorf("%d rejected, want %d", rejected, want)
		}
	})

	t.Run("a rotated key", func(t *testing.T) {
		key(strings.ToUpper(hmacKey))
		r.Wait("the new key", func() bool { return signed(shop, `{"order":1}`).Status == 401 })
		if a := r.Call("", "POST", shop, body, sign(strings.ToUpper(hmacKey), body, time.Now())...); a.Status != 200 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	})
}

// TestWaitForResultEnds: a call that waits for a result when the service shuts down gets a reference to the run, which continues.
func TestWaitForResultEnds(t *testing.T) {
	r := up(t)
	r.put("hold", `{"triggers":[{"name":"h","type":"Webhook","webhook":{"path":"h","respond":"WaitForResult"}}],"steps":[{"name":"a","type":"wait","with":{"event":true}}]}`)
	answered := make(chan producttest.Response, 1)
	go func() {
		a, err := r.Try(r.editor, "POST", "/webhooks/h", `{}`)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	var run Run
	r.Wait("the run", func() bool {
		list := producttest.Must[api.List[Run]](r.Running, 200, r.viewer, "GET", "/workflows/hold/runs?phase=Waiting", nil)
		if len(list.Items) == 1 {
			run = list.Items[0]
		}
		return len(list.Items) == 1
	})
	r.Stop()
	if a := <-answered; a.Status != 202 || a.Header.Get("Location") != producttest.Base+"/runs/"+run.ID {
		t.Errorf("%d %s, want the run %s", a.Status, a.Body, run.ID)
	}
}
