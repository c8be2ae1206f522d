// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// snapshot returns the content of the vault's own tables, which a refused request must not change.
func (r *running) snapshot() string {
	r.T.Helper()
	pool := r.pool()
	defer pool.Close()
	var out strings.Builder
	rows, err := pool.Query(r.T.Context(), `SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1
		AND table_name NOT LIKE 'audit_%' AND table_name NOT LIKE 'goose_%' AND table_name NOT LIKE 'api_%' ORDER BY 1`, r.Settings.Database.Schema)
	if err != nil {
		r.T.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			r.T.Fatal(err)
		}
		tables = append(tables, name)
	}
	if len(tables) < 3 {
		r.T.Fatalf("tables %v", tables)
	}
	for _, table := range tables {
		var text string
		if err := pool.QueryRow(r.T.Context(), fmt.Sprintf(`SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM %s t`, table)).Scan(&text); err != nil {
			r.T.Fatal(err)
		}
		out.WriteString(table + "\n" + text + "\n")
	}
	return out.String()
}

func (r *running) pool() *pgxpool.Pool {
	r.T.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(r.binding.Username, r.binding.Password), Host: r.binding.Address(), Path: r.binding.Database}
	u.RawQuery = url.Values{"search_path": {r.Settings.Database.Schema}, "sslmode": {"disable"}}.Encode()
	pool, err := pgxpool.New(context.Background(), u.String())
	if err != nil {
		r.T.Fatal(err)
	}
	return pool
}

const canary = "canary-4711-never-to-be-seen"

// Each returns 4xx with the field's path at once, changes nothing, and never repeats the input.
func TestBadInput(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", "one"))
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/other", "two"))
	begin := time.Now()
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("largest", strings.Repeat("x", wire.MaxValueBytes)))
	allowed := time.Since(begin)
	before := r.snapshot()
	long := strings.Repeat("a", 254)
	slowest, which := time.Duration(0), ""
	big := fmt.Sprintf(`{"path":"big","type":"Text","value":{"text":"%s"}}`, encoded(strings.Repeat("x", wire.MaxValueBytes+1)))
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		field              string
		headers            []string
	}{
		{"wrong type", "POST", "/secrets", `{"path":"a","type":"Password","value":{"text":"eA=="}}`, 422, "body.type", nil},
		{"type of another secret", "PUT", "/secrets/db%2Fpassword", wire.Write{Type: wire.TypeAPIKey, Value: wire.Value{"key": []byte(canary)}}, 422, "body.type", nil},
		{"a field the type does not have", "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"eA==","key":"eA=="}}`, 422, "body.value", nil},
		{"a field's name as the value", "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"eA==","` + canary + `":"eA=="}}`, 422, "body.value", nil},
		{"no base64", "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"` + canary + `!"}}`, 422, "", nil},
		{"empty value", "POST", "/secrets", `{"path":"a","type":"Text","value":{}}`, 422, "body.value.text", nil},
		{"over 1 MiB", "POST", "/secrets", big, 422, "body.value", nil},
		{"a body over the limit", "POST", "/secrets", `{"path":"` + strings.Repeat("x", 3<<20) + `"}`, 413, "", nil},
		{"path traversal in a body", "POST", "/secrets", write("../../etc/passwd", canary), 422, "body.path", nil},
		{"path traversal in a URL", "GET", "/secrets/..%2F..%2Fetc%2Fpasswd", nil, 422, "path.path", nil},
		{"dots inside", "GET", "/secrets/db%2F..%2Fpassword/value", nil, 422, "path.path", nil},
		{"an empty segment", "POST", "/secrets", write("a//b", canary), 422, "body.path", nil},
		{"upper case", "POST", "/secrets", write("DB", canary), 422, "body.path", nil},
		{"a long path", "POST", "/secrets", write(long, canary), 422, "body.path", nil},
		{"NUL in a path", "GET", "/secrets/a%00b", nil, 400, "", nil},
		{"stale check-and-set", "PUT", "/secrets/db%2Fpassword", `{"type":"Text","value":{"text":"eA=="},"checkAndSet":7}`, 412, "", nil},
		{"stale If-Match", "PUT", "/secrets/db%2Fpassword", value("x"), 412, "", []string{"If-Match", `"9"`}},
		{"malformed If-Match", "PUT", "/secrets/db%2Fpassword", value("x"), 400, "header.If-Match", []string{"If-Match", canary}},
		{"both, with different values", "PUT", "/secrets/db%2Fpassword", `{"type":"Text","value":{"text":"eA=="},"checkAndSet":7}`, 422, "body.checkAndSet", []string{"If-Match", `"1"`}},
		{"a forged sealed value", "POST", "/secrets/s/apply", wire.Apply{Type: wire.TypeText, Name: "s", SourceHash: "h", Sealed: "vsec1.0123456789abcdef." + strings.Repeat("A", 100)}, 422, "body.sealed", nil},
		{"not a sealed value", "POST", "/secrets/s/apply", wire.Apply{Type: wire.TypeText, Name: "s", SourceHash: "h", Sealed: canary}, 422, "body.sealed", nil},
		{"a broken certificate", "POST", "/secrets", `{"path":"a","type":"Certificate","value":{"tls.crt":"eA==","tls.key":"eA=="}}`, 422, "body.value.tls.crt", nil},
		{"a CA in another namespace", "POST", "/secrets/c/apply", wire.Apply{Type: wire.TypeCertificate, Name: "c", SourceHash: "h", Issue: &wire.Issue{DNSNames: []string{"c.example.com"}, CAPath: "../other/ca"}}, 422, "body.issue.caPath", nil},
		{"mass assignment", "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"eA=="},"namespace":"other","keyID":"x"}`, 422, "body.namespace", nil},
		{"duplicate keys", "POST", "/secrets", `{"path":"a","path":"b","type":"Text","value":{"text":"eA=="}}`, 400, "", nil},
		{"trailing data", "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"eA=="}} {}`, 400, "", nil},
		{"depth of 10,000", "POST", "/secrets", strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000), 400, "", nil},
		{"not JSON", "POST", "/secrets", canary, 400, "", nil},
		{"a form", "POST", "/secrets", `a=b`, 415, "", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"compressed", "POST", "/secrets", `{}`, 415, "", []string{"Content-Encoding", "gzip"}},
		{"a forged cursor", "GET", "/secrets?cursor=" + canary, nil, 400, "query.cursor", nil},
		{"a limit of a million", "GET", "/secrets?limit=1000000", nil, 422, "query.limit", nil},
		{"an unknown filter", "GET", "/secrets?" + canary + "=1", nil, 422, "", nil},
		{"a negative version", "GET", "/secrets/db%2Fpassword/value?version=-1", nil, 422, "query.version", nil},
		{"an invalid version", "GET", "/secrets/db%2Fpassword/versions/abc/undelete", nil, 405, "", nil},
		{"a missing version", "POST", "/secrets/db%2Fpassword/rollback", `{"version":99}`, 404, "", nil},
		{"another tenant's path", "GET", "/secrets/other%2Fnamespace/value", nil, 404, "", nil},
		{"no share", "POST", "/unseal", map[string]string{"share": canary}, 422, "body.share", nil},
		{"an invalid time", "GET", "/audit?since=" + canary, nil, 422, "query.since", nil},
		{"a policy without Kubernetes", "POST", "/policies", `{"name":"p","subjects":[{"kind":"User","name":"a"}],"rules":[{"paths":["a"],"verbs":["read"]}]}`, 409, "", nil},
	} {
		began := time.Now()
		a := r.Call(r.Admin, c.method, c.path, c.body, c.headers...)
		took := time.Since(began)
		if a.Status != c.status {
			t.Errorf("%s: %d %.300s, want %d", c.name, a.Status, a.Body, c.status)
			continue
		}
		said := a.Refusal(t)
		if c.field != "" && !slices.ContainsFunc(said.Details, func(d struct {
			Field   string `json:"field"`
			Message string `json:"message"`
		}) bool {
			return d.Field == c.field
		}) {
			t.Errorf("%s: %s does not name field %s", c.name, a.Body, c.field)
		}
		if bytes.Contains(a.Body, []byte(canary)) {
			t.Errorf("%s: the response repeats the input: %s", c.name, a.Body)
		}
		if took > slowest {
			slowest, which = took, c.name
		}
	}
	// No refusal costs much more than the largest allowed request.
	if t.Logf("the slowest response took %s: %s; the largest secret %s", slowest, which, allowed); slowest > 10*allowed {
		t.Errorf("%s took %s, storing the largest secret %s", which, slowest, allowed)
	}
	if after := r.snapshot(); after != before {
		t.Errorf("a refused request changed something:\n%s\nwas\n%s", after, before)
	}
	if strings.Contains(r.Logs.String(), canary) {
		t.Error("the log contains the input")
	}
}

// A row that was moved, truncated or modified in the database does not open.
func TestTamperedRows(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	for _, path := range []string{"a", "b"} {
		must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write(path, "value of "+path))
		must[wire.Secret](r, http.StatusOK, r.Admin, "PUT", "/secrets/"+path, value("second of "+path))
	}
	pool := r.pool()
	defer pool.Close()
	change := func(sql string) {
		t.Helper()
		tag, err := pool.Exec(t.Context(), sql)
		if err != nil || tag.RowsAffected() == 0 {
			t.Fatalf("%s: %v, %d rows", sql, err, tag.RowsAffected())
		}
	}
	opens := func(path string, version int, want bool) {
		t.Helper()
		a := r.Call(r.Admin, "GET", fmt.Sprintf("/secrets/%s/value?version=%d", path, version), nil)
		if (a.Status == 200) != want || (!want && (a.Status != 422 || a.Refusal(t).Code != "corrupt")) {
			t.Errorf("%s@%d: %d %s", path, version, a.Status, a.Body)
		}
	}
	opens("a", 1, true)
	change(`UPDATE versions x SET ciphertext = y.ciphertext FROM versions y, secrets s
		WHERE s.path = 'a' AND x.secret_id = s.id AND y.secret_id = s.id AND x.version = 1 AND y.version = 2`)
	opens("a", 1, false)
	opens("a", 2, true)
	change(`UPDATE versions x SET ciphertext = substring(x.ciphertext FOR length(x.ciphertext) - 1) FROM secrets s
		WHERE s.path = 'b' AND x.secret_id = s.id AND x.version = 1`)
	opens("b", 1, false)
	opens("b", 2, true)
}

// The canary is only in the sealed store.
func TestPlaintextDoesNotLeak(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	r := start(t, settings, nil)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", canary), "Idempotency-Key", "one")
	must[wire.Secret](r, http.StatusOK, r.Admin, "PUT", "/secrets/db%2Fpassword", value(canary+canary))
	read := must[wire.Read](r, http.StatusOK, r.Admin, "GET", "/secrets/db%2Fpassword/value", nil)
	if string(read.Value[wire.FieldText]) != canary+canary {
		t.Fatal("the value cannot be read back")
	}
	must[wire.Applied](r, 200, r.Admin, "POST", "/secrets/k/apply", wire.Apply{Type: wire.TypeAPIKey, Name: "k", SourceHash: "h", Value: wire.Value{"key": []byte(canary)}})
	must[any](r, http.StatusOK, r.Admin, "GET", "/secrets/db%2Fpassword/diff?from=1&to=2", nil)
	everything := map[string]string{
		"the audit log": string(r.Call(r.Admin, "GET", "/audit/export", nil).Body),
		"the versions":  string(r.Call(r.Admin, "GET", "/secrets/db%2Fpassword/versions", nil).Body),
		"the list":      string(r.Call(r.Admin, "GET", "/secrets", nil).Body),
		"the diff":      string(r.Call(r.Admin, "GET", "/secrets/db%2Fpassword/diff?from=1&to=2", nil).Body),
		"the document":  string(r.get("/openapi.json")),
		"the health":    string(r.get(config.HealthPath)),
		"the errors":    r.errorsWith(canary),
	}
	everything["the metrics"] = r.metrics()
	r.Stop()
	everything["the log"] = r.Logs.String()
	everything["the dump"] = dump(t, r)
	everything["the spill"] = readTree(t, r.Spill)
	signature := r.Admin[strings.LastIndexByte(r.Admin, '.'):]
	for _, secret := range []string{canary, encoded(canary), encoded(canary)[:20], vaultSettings(t, settings).Passphrase, producttest.AdminPassword, signature, settings.Auth.Keys[0].Secret, r.binding.Password} {
		for where, text := range everything {
			if len(text) < 20 {
				t.Errorf("%s holds %q", where, text)
			}
			if strings.Contains(text, secret) {
				at := strings.Index(text, secret)
				t.Errorf("%s holds %q: …%.300s", where, secret, text[max(0, at-200):])
			}
		}
	}
}

// get reads a public page.
func (r *running) get(path string) []byte {
	r.T.Helper()
	answer, err := http.Get(r.URL + path)
	if err != nil {
		r.T.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		r.T.Fatalf("%s: %d, %v", path, answer.StatusCode, err)
	}
	return body
}

// errorsWith returns the responses to invalid requests that contain a text everywhere, headers included.
func (r *running) errorsWith(text string) string {
	r.T.Helper()
	var out strings.Builder
	for _, c := range []struct {
		token, method, path string
		body                any
		headers             []string
	}{
		{r.Admin, "POST", "/secrets", write("db/password", text), nil}, // it already exists
		{r.Admin, "PUT", "/secrets/db%2Fpassword", value(text), []string{"If-Match", `"99"`}},
		{r.Admin, "PUT", "/secrets/db%2Fpassword", wire.Write{Type: wire.TypeAPIKey, Value: wire.Value{"key": []byte(text)}}, nil},
		{r.Admin, "PUT", "/secrets/db%2Fpassword", wire.Write{Type: wire.TypeText, Value: wire.Value{text: []byte(text)}}, nil},
		{r.Admin, "POST", "/secrets", wire.Write{Type: wire.TypeCertificate, Value: wire.Value{"tls.crt": []byte(text), "tls.key": []byte(text)}}, nil},
		{r.Admin, "POST", "/secrets/s/apply", wire.Apply{Type: wire.TypeText, Name: "s", SourceHash: text, Sealed: "vsec1." + text}, nil},
		{r.Admin, "POST", "/secrets", `{"path":"a","type":"Text","value":{"text":"` + text + `"},"` + text + `":1}`, nil},
		{r.Admin, "POST", "/secrets", `{"value":` + text, nil},
		{r.Admin, "POST", "/unseal", map[string]string{"share": "vshare1." + text}, nil},
		{r.Admin, "POST", "/secrets", write("a", text), []string{"Idempotency-Key", text + " x"}},
		{r.Admin, "GET", "/secrets?" + text + "=1&cursor=" + text, nil, nil},
		{r.Admin, "PUT", "/me", map[string]string{"password": text, "oldPassword": text}, nil},
		{text, "GET", "/secrets", nil, nil},
		{"", "POST", "/register", map[string]string{"email": text, "password": text}, nil},
		{"", "POST", "/token", "grant_type=password&username=" + text + "&password=" + text, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"", "GET", "/authorize?client_id=" + text + "&redirect_uri=" + text, nil, []string{"Accept", "application/problem+json"}},
	} {
		a := r.Call(c.token, c.method, c.path, c.body, c.headers...)
		if a.Status < 400 || a.Status > 499 {
			r.T.Errorf("%s %s: %d %s", c.method, c.path, a.Status, a.Body)
		}
		fmt.Fprintf(&out, "%d %v %s\n", a.Status, a.Header, a.Body)
	}
	return out.String()
}

// dump returns pg_dump's text of both schemas, values as they are in the database.
func dump(t *testing.T, r *running) string {
	t.Helper()
	program := findDump(t)
	cmd := exec.Command(program, "--no-owner", "-n", r.Settings.Database.Schema, "-n", r.Settings.Identity.Schema,
		"-h", r.binding.Host, "-p", r.binding.Port, "-U", r.binding.Username, r.binding.Database)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+r.binding.Password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v: %s", err, stderr.String())
	}
	if !bytes.Contains(out, []byte("db/password")) {
		t.Fatal("the dump holds no secret at all")
	}
	// Bytes are in hexadecimal there: search those as well.
	text := string(out)
	for _, part := range strings.Split(text, `\\x`)[1:] {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789abcdef"))]
		raw := make([]byte, len(digits)/2)
		if _, err := fmt.Sscanf(digits[:len(raw)*2], "%x", &raw); err == nil {
			text += string(raw)
		}
	}
	return text
}

func findDump(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("pg_dump"); err == nil {
		return path
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/pg_dump", filepath.Join("..", "..", "..", "..", ".local", "servers", "*", "*", "bin", "pg_dump"),
		filepath.Join("..", "..", "..", "..", ".local", "servers", "*", "bin", "pg_dump")} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skip("pg_dump is missing")
	return ""
}

func readTree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out.WriteString(path + "\n" + string(data) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
