// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// zeros is a body without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// send writes bytes to the service and reads one response; status 0: it closed the connection.
func (r *running) send(text string, body io.Reader) (status int, header http.Header, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // the test fails then
		return 0, nil, err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return 0, nil, err
	}
	if body != nil {
		// The service may refuse before it has read everything.
		go func() { _, _ = io.Copy(conn, body) }()
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil, errors.New("the service neither answered nor closed")
	}
	if err != nil {
		return 0, nil, nil
	}
	return answer.StatusCode, answer.Header, nil
}

// memory returns the process's current memory, and its peak since the last call, in bytes.
func (c *child) memory() (now, peak int64) {
	c.T.Helper()
	dir := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		c.T.Fatal(err)
	}
	read := func(name string) int64 {
		found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
		if found == nil {
			c.T.Fatalf("no %s in %s", name, text)
		}
		n, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil {
			c.T.Fatal(err)
		}
		return n << 10
	}
	now, peak = read("VmRSS"), read("VmHWM")
	if err := os.WriteFile(dir+"clear_refs", []byte("5"), 0); err != nil { // resets the peak
		c.T.Fatal(err)
	}
	return now, peak
}

// TestHostileBytes sends what no client library sends, each many times at once: it is refused or cut off, the service's
// memory stays bounded, and others are served meanwhile.
func TestHostileBytes(t *testing.T) {
	c := launch(t, settingsOn(t, servers.Postgres(t)), t.TempDir())
	c.Admin = c.Login(producttest.AdminEmail, producttest.AdminPassword)
	must[wire.Secret](c.running, http.StatusCreated, c.Admin, "POST", "/secrets", write("kept", "as it was"))
	var member bytes.Buffer
	zip := gzip.NewWriter(&member)
	if _, err := io.CopyN(zip, zeros{}, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat(member.Bytes(), 1<<10) // 1 GiB decompressed
	const hundredMB = 100 << 20
	head := func(line string, headers ...string) string {
		return line + " HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + c.Admin + "\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
	}
	post := func(headers ...string) string {
		return head("POST /api/v1/secrets", append([]string{"Content-Type: application/json"}, headers...)...)
	}
	for _, x := range []struct {
		name   string
		text   string
		body   func() io.Reader
		status int // 0: closed
	}{
		{"gzip bomb", post("Content-Encoding: gzip", fmt.Sprintf("Content-Length: %d", len(bomb))), func() io.Reader { return bytes.NewReader(bomb) }, 415},
		{"100 MB", post(fmt.Sprintf("Content-Length: %d", hundredMB)), func() io.Reader { return io.LimitReader(zeros{}, hundredMB) }, 413},
		{"100 MB in one chunk", post("Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", hundredMB), func() io.Reader { return io.LimitReader(zeros{}, hundredMB) }, 413},
		{"100 MB with an idempotency key", post("Transfer-Encoding: chunked", "Idempotency-Key: k") + fmt.Sprintf("%x\r\n", hundredMB), func() io.Reader { return io.LimitReader(zeros{}, hundredMB) }, 413},
		{"100 MB of a form", head("POST /api/v1/token", "Content-Type: application/x-www-form-urlencoded", fmt.Sprintf("Content-Length: %d", hundredMB)), func() io.Reader { return io.LimitReader(zeros{}, hundredMB) }, 413},
		{"64 KiB of headers", head("GET /api/v1/secrets", "X-A: "+strings.Repeat("a", 64<<10)), nil, 431},
		{"a bare CR in a header", head("GET /api/v1/secrets", "X-Request-Id: a\rSet-Cookie: a=b"), nil, 400},
		{"a bare LF in a header's name", head("GET /api/v1/secrets", "X-A\nSet-Cookie: a=b"), nil, 400},
		{"CRLF in a path", head("GET /api/v1/secrets/a%0d%0aSet-Cookie:%20a=b"), nil, 400},
		{"CRLF in a query", head("GET /api/v1/secrets?prefix=a%0d%0aSet-Cookie:%20a=b"), nil, 0},
		{"CRLF in an idempotency key", post("Idempotency-Key: a\r\n b", "Content-Length: 0"), nil, 400},
		{"two lengths", post("Content-Length: 5", "Content-Length: 6") + "abcdef", nil, 400},
		{"a length and chunks", post("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", nil, 400},
		{"no HTTP", canary + "\r\n\r\n", nil, 400},
	} {
		t.Run(x.name, func(t *testing.T) {
			before, _ := c.memory()
			var attacks sync.WaitGroup
			for range 8 {
				attacks.Go(func() {
					var body io.Reader
					if x.body != nil {
						body = x.body()
					}
					status, header, err := c.send(x.text, body)
					if err != nil || (status != x.status && x.status != 0) || (status != 0 && (status < 400 || status > 499)) {
						t.Errorf("%d, %v; want %d", status, err, x.status)
					}
					if header.Get("Set-Cookie") != "" {
						t.Error("a header was injected")
					}
				})
			}
			if a := c.Call(c.Admin, "GET", "/secrets/kept/value", nil); a.Status != http.StatusOK {
				t.Errorf("meanwhile: %d %s", a.Status, a.Body)
			}
			attacks.Wait()
			// Eight bodies of 2 MiB are read at a time, and the race detector needs many bytes for each; 800 MB were
			// sent.
			if _, peak := c.memory(); peak-before > 384<<20 {
				t.Errorf("the process grew from %d to %d bytes", before, peak)
			} else {
				t.Logf("the process grew by %d KiB", (peak-before)>>10)
			}
		})
	}
	if strings.Contains(c.Logs.String(), "panicked") {
		t.Errorf("a handler panicked: %s", c.Logs)
	}
}

// TestSlowClients holds many connections with headers and bodies that do not end: all are cut off, and others are served.
func TestSlowClients(t *testing.T) {
	c := launch(t, settingsOn(t, servers.Postgres(t)), t.TempDir())
	c.Admin = c.Login(producttest.AdminEmail, producttest.AdminPassword)
	before, _ := c.memory()
	var slow sync.WaitGroup
	for n := range 200 {
		slow.Go(func() {
			text := "GET /api/v1/secrets HTTP/1.1\r\nHost: vault\r\nX-A: "
			if n%2 == 0 {
				text = ""
			}
			if status, _, err := c.send(text, nil); err != nil || (status != 0 && status != http.StatusRequestTimeout && status != http.StatusBadRequest) {
				t.Errorf("%d, %v", status, err)
			}
		})
	}
	for range 20 {
		if a := c.Call(c.Admin, "GET", "/secrets", nil); a.Status != http.StatusOK {
			t.Errorf("meanwhile: %d %s", a.Status, a.Body)
		}
	}
	slow.Wait()
	if _, peak := c.memory(); peak-before > 64<<20 {
		t.Errorf("the process grew from %d to %d bytes", before, peak)
	}
}

// TestForgedTokens checks that each token is refused by 401 with the code, and is in neither the response nor the log.
func TestForgedTokens(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	r := start(t, settings, nil)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("kept", canary))
	secret, err := base64.StdEncoding.DecodeString(settings.Auth.Keys[0].Secret)
	if err != nil {
		t.Fatal(err)
	}
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	real := strings.Split(r.Admin, ".")
	payload, err := base64.RawURLEncoding.DecodeString(real[1])
	if err != nil {
		t.Fatal(err)
	}
	// claims returns those of the administrator's own token, with these changes.
	claims := func(pairs ...any) map[string]any {
		out := map[string]any{}
		if err := json.Unmarshal(payload, &out); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i].(string)] = pairs[i+1]
		}
		return out
	}
	signed := func(kid string, key []byte, content map[string]any) string {
		options := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", kid)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, options)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(content).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if a := r.Call(signed("k1", secret, claims()), "GET", "/secrets/kept/value", nil); a.Status != http.StatusOK {
		t.Fatalf("a valid token: %d %s", a.Status, a.Body)
	}
	none := func(alg string) string {
		return part(map[string]string{"alg": alg, "typ": "at+jwt", "kid": "k1"}) + "." + real[1] + "."
	}
	for name, token := range map[string]string{
		"alg none":             none("none"),
		"alg nOnE":             none("nOnE"),
		"alg none, signed":     none("none") + real[2],
		"wrong audience":       signed("k1", secret, claims("aud", "https://other.example.com")),
		"wrong issuer":         signed("k1", secret, claims("iss", "https://other.example.com")),
		"expired":              signed("k1", secret, claims("exp", time.Now().Add(-time.Hour).Unix())),
		"kid with ../":         signed("../../../../dev/null", []byte(strings.Repeat("\x00", 32)), claims()),
		"kid with ../, signed": signed("../k1", secret, claims()),
		"kid of SQL":           signed("k1' OR '1'='1", secret, claims()),
		"another key":          signed("k1", bytes.Repeat([]byte("x"), 32), claims()),
		"other claims":         real[0] + "." + part(claims("name", "eve@example.com")) + "." + real[2],
		"a text":               canary,
	} {
		for _, method := range []string{"GET", "DELETE"} {
			a := r.Call(token, method, "/secrets/kept", nil)
			if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: %d %s", name, method, a.Status, a.Body)
			}
			if strings.Contains(string(a.Body), token) || strings.Contains(r.Logs.String(), token) {
				t.Errorf("%s: the token is in the response", name)
			}
		}
	}
	if read := must[wire.Read](r, http.StatusOK, r.Admin, "GET", "/secrets/kept/value", nil); string(read.Value[wire.FieldText]) != canary {
		t.Error("the secret is missing")
	}
}

// TestForgedAddress checks that a client's requests share one bucket, whatever address it claims.
func TestForgedAddress(t *testing.T) {
	const burst = 5
	for name, proxies := range map[string][]string{"no proxy": nil, "behind a proxy": {"127.0.0.0/8"}} {
		t.Run(name, func(t *testing.T) {
			settings := settingsOn(t, servers.Postgres(t))
			settings.RateLimit = config.RateLimit{RequestsPerMinute: 1, Burst: burst}
			settings.TrustedProxies = proxies
			r := start(t, settings, nil)
			ask := func(forwarded string) int {
				return r.Call("", "GET", "/seal-status", nil, "X-Forwarded-For", forwarded, "X-Real-Ip", forwarded, "Forwarded", "for="+forwarded).Status
			}
			passed := 0
			for n := range 4 * burst {
				// The proxy appends the real address; the rest is the client's.
				if status := ask(fmt.Sprintf("203.0.113.%d, 198.51.100.7", n)); status == http.StatusOK {
					passed++
				} else if status != http.StatusTooManyRequests {
					t.Fatalf("status %d", status)
				}
			}
			if passed > burst {
				t.Errorf("%d requests passed, and the bucket holds %d", passed, burst)
			}
			want := http.StatusTooManyRequests
			if proxies != nil {
				want = http.StatusOK // another client of the same proxy
			}
			if status := ask("203.0.113.1, 198.51.99.8"); status != want {
				t.Errorf("another client's request: %d, want %d", status, want)
			}
		})
	}
}
