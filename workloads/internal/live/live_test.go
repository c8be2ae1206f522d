// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// long limits waits in tests.
const long = 30 * time.Second

// serving is a server with all middleware, whose every path is a stream.
type serving struct {
	t       *testing.T
	streams *Streams
	url     string
	stop    context.CancelFunc
	ended   chan error // of each stream function
}

func serve(t *testing.T, o Options, tell func(ctx context.Context, send Send) error) *serving {
	t.Helper()
	// The timeouts of requests must not end a stream.
	s := server.New(server.Options{Name: "test", Addr: "127.0.0.1:0", DrainDelay: -1, ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond})
	o.Draining = s.Draining()
	r := &serving{t: t, streams: New(o), ended: make(chan error, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, req *http.Request) {
		if err := r.streams.Check(req); err != nil {
			api.Write(w, req, err)
			return
		}
		r.streams.Serve(w, req, func(ctx context.Context, send Send) error {
			err := tell(ctx, send)
			r.ended <- err
			return err
		})
	})
	s.Mount(server.Routes(mux))
	address, _, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	r.url = "ws://" + address.String() + "/live"
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = stop
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server: %v", err)
		}
		r.streams.Wait()
		if n := r.streams.Open(); n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
	return r
}

func (r *serving) dial(o *websocket.DialOptions) (*websocket.Conn, int) {
	r.t.Helper()
	conn, answer, err := websocket.Dial(r.t.Context(), r.url, o)
	if answer == nil {
		r.t.Fatal(err)
	}
	if conn != nil {
		r.t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, answer.StatusCode
}

// end returns the error that a stream function ended with.
func (r *serving) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(long):
		r.t.Fatal("the stream did not end")
		return nil
	}
}

func until(ctx context.Context, _ Send) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestOutlivesRequests checks that a stream continues beyond the timeouts of requests, and that its end is detected.
func TestOutlivesRequests(t *testing.T) {
	pings := make(chan struct{}, 100)
	goOn := make(chan struct{})
	r := serve(t, Options{Ping: 50 * time.Millisecond, Write: long}, func(ctx context.Context, send Send) error {
		if err := send(map[string]int{"n": 1}); err != nil {
			return err
		}
		select {
		case <-goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
		return send(map[string]int{"n": 2})
	})
	conn, status := r.dial(&websocket.DialOptions{Subprotocols: []string{Protocol, "bearer.x"}, OnPingReceived: func(context.Context, []byte) bool {
		pings <- struct{}{}
		return true
	}})
	if status != 101 || conn.Subprotocol() != Protocol {
		t.Fatalf("%d %q", status, conn.Subprotocol())
	}
	go func() {
		for range 5 { // beyond the server's timeouts
			<-pings
		}
		close(goOn)
	}()
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		if _, data, err := conn.Read(t.Context()); err != nil || string(data) != want {
			t.Fatalf("%s %v, want %s", data, err, want)
		}
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the end: %v", err)
	}
	if err := r.end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestEnds(t *testing.T) {
	t.Run("a client that disconnects", func(t *testing.T) {
		r := serve(t, Options{}, until)
		conn, _ := r.dial(nil)
		_ = conn.CloseNow()
		if err := r.end(); err == nil {
			t.Error("the end was not detected")
		}
	})
	t.Run("a client that does not respond", func(t *testing.T) {
		r := serve(t, Options{Ping: 20 * time.Millisecond, Write: 20 * time.Millisecond}, until)
		r.dial(nil) // a client that does not read does not respond
		if err := r.end(); err == nil {
			t.Error("the end was not detected")
		}
	})
	t.Run("a client that does not read", func(t *testing.T) {
		sent := 0
		r := serve(t, Options{Write: 50 * time.Millisecond}, func(_ context.Context, send Send) error {
			for {
				if err := send(strings.Repeat("x", 64<<10)); err != nil {
					return err
				}
				sent++
			}
		})
		r.dial(nil)
		if err := r.end(); err == nil || sent == 0 {
			t.Errorf("after %d messages: %v", sent, err)
		}
	})
	t.Run("a client that sends", func(t *testing.T) {
		r := serve(t, Options{}, until)
		conn, _ := r.dial(nil)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("it received %v", err)
		}
		if err := r.end(); err == nil {
			t.Error("the end was not detected")
		}
	})
	t.Run("an error", func(t *testing.T) {
		r := serve(t, Options{}, func(context.Context, Send) error { return errors.New("canary") })
		conn, _ := r.dial(nil)
		_, _, err := conn.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusInternalError || strings.Contains(err.Error(), "canary") {
			t.Errorf("it received %v", err)
		}
	})
	t.Run("the service", func(t *testing.T) {
		r := serve(t, Options{}, until)
		conn, _ := r.dial(nil)
		r.stop()
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("it received %v", err)
		}
	})
}

func TestCheck(t *testing.T) {
	r := serve(t, Options{Max: 2, Origins: []string{"https://console.example.com"}}, until)
	host := strings.TrimSuffix(strings.TrimPrefix(r.url, "ws://"), "/live")
	for name, c := range map[string]struct {
		origin    string
		protocols []string
		want      int
	}{
		"another origin":          {"https://evil.example.com", nil, 403},
		"the name of ours within": {"https://" + host + ".evil.example.com", nil, 403},
		"null":                    {"null", nil, 403},
		"a token alone":           {"", []string{"bearer.x"}, 400},
	} {
		if _, status := r.dial(&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {c.origin}}, Subprotocols: c.protocols}); status != c.want {
			t.Errorf("%s: %d, want %d", name, status, c.want)
		}
	}
	for _, origin := range []string{"http://" + host, "https://console.example.com"} {
		if _, status := r.dial(&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}}); status != 101 {
			t.Errorf("%s: %d", origin, status)
		}
	}
	if _, status := r.dial(nil); status != 503 {
		t.Errorf("one too many: %d", status)
	}
	for name, headers := range map[string]map[string]string{
		"no upgrade": {}, "another protocol": {"Connection": "Upgrade", "Upgrade": "h2c"},
		"another version": {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(r.url, "ws"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range headers {
			request.Header.Set(key, value)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 426 || answer.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: %d %v", name, answer.StatusCode, answer.Header)
		}
	}
}
