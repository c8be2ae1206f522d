// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// ledger records what the writers know.
type ledger struct {
	t       testing.TB
	service atomic.Pointer[child]
	token   string
	ended   chan struct{}
	known   atomic.Int64 // acknowledged writes

	stored map[string]int64 // newest versions by path, as found by check

	mu           sync.Mutex
	acknowledged map[string]map[int64]string // values by path and version
	unanswered   map[string]map[string]bool  // values by path that were sent without a response
	created      map[string]first            // by idempotency key
}

// first is a request with an idempotency key, and its response.
type first struct {
	body   any
	answer producttest.Response
}

// write runs until the end, through every outage: a new secret, some versions of it, the next secret.
func (l *ledger) write(writer int) {
	const versions = 6
	for n := 0; ; n++ {
		select {
		case <-l.ended:
			return
		default:
		}
		path := fmt.Sprintf("w%d/s%d", writer, n/versions)
		text := fmt.Sprintf("%s, write %d of writer %d, %s", path, n, writer, strings.Repeat("x", 200))
		var answer producttest.Response
		var err error
		if n%versions == 0 {
			key, body := fmt.Sprintf("key-%d-%d", writer, n), write(path, text)
			answer, err = l.service.Load().Try(l.token, http.MethodPost, "/secrets", body, "Idempotency-Key", key)
			if err == nil && answer.Status == http.StatusCreated {
				l.mu.Lock()
				l.created[key] = first{body, answer}
				l.mu.Unlock()
			}
		} else {
			answer, err = l.service.Load().Try(l.token, http.MethodPut, "/secrets/"+url.PathEscape(path), value(text))
		}
		if !l.note(path, text, answer, err) {
			n += versions - 1 - n%versions // the next secret
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// note records a response; it returns false if it was not a success.
func (l *ledger) note(path, text string, answer producttest.Response, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || answer.Status >= http.StatusInternalServerError {
		if err == nil && answer.Status != http.StatusServiceUnavailable {
			l.t.Errorf("%s: %d %s", path, answer.Status, answer.Body)
		}
		if l.unanswered[path] == nil {
			l.unanswered[path] = map[string]bool{}
		}
		l.unanswered[path][text] = true
		return false
	}
	var envelope struct {
		Data wire.Secret `json:"data"`
	}
	if answer.Status >= http.StatusBadRequest || json.Unmarshal(answer.Body, &envelope) != nil || envelope.Data.Version == 0 {
		l.t.Errorf("%s: %d %s", path, answer.Status, answer.Body)
		return false
	}
	if l.acknowledged[path] == nil {
		l.acknowledged[path] = map[int64]string{}
	}
	if before, twice := l.acknowledged[path][envelope.Data.Version]; twice {
		l.t.Errorf("%s: version %d was acknowledged for %q and %q", path, envelope.Data.Version, before, text)
	}
	l.acknowledged[path][envelope.Data.Version] = text
	l.known.Add(1)
	return true
}

// progress waits for n more writes.
func (l *ledger) progress(n int64) {
	l.t.Helper()
	target := l.known.Load() + n
	l.service.Load().Wait("writes to continue", func() bool { return l.known.Load() >= target })
}

// check reads everything back: each acknowledged version exists, intact, and nothing exists that was not written.
func (l *ledger) check(r *running) {
	l.t.Helper()
	extra := 0
	for path, versions := range l.acknowledged {
		escaped := url.PathEscape(path)
		newest := must[wire.Secret](r, http.StatusOK, l.token, http.MethodGet, "/secrets/"+escaped, nil).Version
		l.stored[path] = newest
		for version := range versions {
			if version > newest {
				l.t.Errorf("%s: version %d was acknowledged, and the newest is %d", path, version, newest)
			}
		}
		for version := int64(1); version <= newest; version++ {
			read := must[wire.Read](r, http.StatusOK, l.token, http.MethodGet, fmt.Sprintf("/secrets/%s/value?version=%d", escaped, version), nil)
			got := string(read.Value[wire.FieldText])
			switch want, ok := versions[version]; {
			case ok && got != want:
				l.t.Errorf("%s: version %d is %q, and %q was acknowledged", path, version, got, want)
			case !ok && !l.unanswered[path][got]:
				l.t.Errorf("%s: version %d is %q, which was never written", path, version, got)
			case !ok:
				extra++
			}
		}
	}
	l.t.Logf("%d writes of %d secrets were acknowledged, and all open; %d more were stored without an answer", l.known.Load(), len(l.acknowledged), extra)
}

// repeat sends every create again: the response is the first one. lossy allows for responses that were not stored.
func (l *ledger) repeat(r *running, lossy bool) {
	l.t.Helper()
	replayed := 0
	for key, f := range l.created {
		again := r.Call(l.token, http.MethodPost, "/secrets", f.body, "Idempotency-Key", key)
		if lossy && again.Status == http.StatusConflict && again.Refusal(l.t).Code == "idempotency_key_in_use" {
			continue
		}
		replayed++
		if again.Status != http.StatusCreated || !bytes.Equal(again.Body, f.answer.Body) || again.Header.Get("Idempotency-Replayed") != "true" {
			l.t.Errorf("key %s: first %s, then %d %s", key, f.answer.Body, again.Status, again.Body)
		}
	}
	if replayed == 0 || replayed < len(l.created)*9/10 {
		l.t.Errorf("%d of %d responses were stored", replayed, len(l.created))
	}
}

// verify reads the audit log: it is intact, and records every acknowledged write.
func (l *ledger) verify(r *running) {
	l.t.Helper()
	key := must[auditlog.Key](r, http.StatusOK, l.token, http.MethodGet, "/audit/key", nil)
	var export []byte
	told := func(path string, version int64) bool {
		return bytes.Contains(export, fmt.Appendf(nil, `"object":"secret/%s@%d"`, path, version))
	}
	missing := func() (what string) {
		export = r.Call(l.token, http.MethodGet, "/audit/export", nil).Body
		for path, versions := range l.acknowledged {
			for version := range versions {
				if !told(path, version) {
					return path
				}
			}
		}
		return ""
	}
	// The spill of a killed process is written later.
	r.Wait("the audit log to hold every acknowledged write", func() bool { return missing() == "" })
	report, err := audit.Verify(bytes.NewReader(export), key.PublicKey)
	var broken *audit.BrokenError
	if errors.As(err, &broken) {
		l.t.Errorf("the audit log: %v\n%s", err, bytes.Split(export, []byte("\n"))[broken.Line-1])
	} else if err != nil {
		l.t.Errorf("the audit log: %v", err)
	}
	silent := 0
	for path, newest := range l.stored {
		for version := int64(1); version <= newest; version++ {
			if !told(path, version) {
				silent++
			}
		}
	}
	l.t.Logf("%d events, %d signatures; %d versions were stored whose process died before their event", report.Events, report.Signatures, silent)
}

// killed writes through strikes, each in the middle of writes, and checks the final state.
func killed(t *testing.T, settings *config.Service, lossy bool, strike func(l *ledger)) {
	dir := t.TempDir()
	service := launch(t, settings, dir)
	l := &ledger{
		t: t, ended: make(chan struct{}), token: service.Login(producttest.AdminEmail, producttest.AdminPassword), acknowledged: map[string]map[int64]string{},
		unanswered: map[string]map[string]bool{}, created: map[string]first{}, stored: map[string]int64{},
	}
	l.service.Store(service)
	var writers sync.WaitGroup
	for n := range 8 {
		writers.Go(func() { l.write(n) })
	}
	stop := sync.OnceFunc(func() { close(l.ended); writers.Wait() })
	defer stop()
	for range 4 {
		l.progress(100)
		strike(l)
	}
	l.progress(100)
	stop()
	l.service.Load().kill()
	fresh := launch(t, settings, dir) // starts without any in-memory state
	l.check(fresh.running)
	l.repeat(fresh.running, lossy)
	l.verify(fresh.running)
}

// TestServiceKilled kills the service's process in the middle of writes.
func TestServiceKilled(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	killed(t, settings, false, func(l *ledger) {
		old := l.service.Load()
		old.kill()
		l.service.Store(launch(t, settings, old.dir))
	})
}

// TestDatabaseKilled kills PostgreSQL in the middle of writes: the service stays up, and serves once the database is
// back.
func TestDatabaseKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills a server")
	}
	database := servers.StartPostgres(t)
	killed(t, settingsOn(t, database.Binding), true, func(l *ledger) {
		database.Kill()
		database.Restart(t)
		l.service.Load().Wait("ready", l.service.Load().Ready)
	})
}
