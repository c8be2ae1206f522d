// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout = 30 * time.Second
	// answerTimeout is when a response counts as an error.
	answerTimeout = 60 * time.Second
	// failureBytes is how much of a response is reported.
	failureBytes = 300
)

// wire returns the request as it is sent.
func (q *Request) wire(address string) ([]byte, error) {
	request, err := http.NewRequest(q.Method, "http://"+address+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range q.Header {
		request.Header.Set(name, value)
	}
	var out bytes.Buffer
	err = request.Write(&out)
	return out.Bytes(), err
}

// worker is one connection. net/http's client has a pool and two goroutines for each, which would cost more than some of
// the measured servers.
type worker struct {
	run    *run
	conn   net.Conn
	reader *bufio.Reader
	random *rand.Rand

	took     [][]float64 // ms, by class
	errors   int
	failures []string
}

func (w *worker) dial(ctx context.Context) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", w.run.spec.Address)
	if err != nil {
		return err
	}
	w.conn, w.reader = conn, bufio.NewReader(conn)
	return nil
}

func (w *worker) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// one sends a request that was due at the given time.
func (w *worker) one(ctx context.Context, due time.Time) {
	class, pick := 0, w.random.IntN(w.run.total)
	for pick >= w.run.classes[class].Weight {
		pick -= w.run.classes[class].Weight
		class++
	}
	c := w.run.classes[class]
	i := int(c.sent.Add(1)) * stride % len(c.wire)
	if err := w.exchange(ctx, c.wire[i], &c.Requests[i]); err != nil {
		w.errors++
		if len(w.failures) < failuresShown {
			w.failures = append(w.failures, c.Name+": "+err.Error())
		}
	}
	w.took[class] = append(w.took[class], float64(time.Since(due))/float64(time.Millisecond))
}

// exchange sends a request and reads its response, on a new connection if the last one broke.
func (w *worker) exchange(ctx context.Context, wire []byte, request *Request) (err error) {
	if w.conn == nil {
		if err := w.dial(ctx); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := w.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := w.conn.Write(wire); err != nil {
		return err
	}
	answer, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != request.Status {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, failureBytes))
		return fmt.Errorf("%s answers %d: %s", request.Method, answer.StatusCode, text)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.Close {
		w.close() // the next request gets a new one
	}
	return nil
}
