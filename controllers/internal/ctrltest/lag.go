// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

var lag = flag.Duration("lag", 0, "let what each watch tells come late by a random time up to this: shows who counts on the order of two watches")

// late returns a copy of cfg whose watches are late, each by a time of its own.
func late(cfg *rest.Config) *rest.Config {
	if *lag <= 0 {
		return cfg
	}
	out := rest.CopyConfig(cfg)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err != nil || req.URL.Query().Get("watch") == "" {
				return res, err
			}
			res.Body = newLateBody(res.Body, rand.N(*lag))
			return res, nil
		})
	})
	return out
}

// lateBody returns what another body does, later.
type lateBody struct {
	body   io.ReadCloser
	pieces chan piece
	once   sync.Once
	closed chan struct{}
	rest   piece
}

type piece struct {
	due  time.Time
	data []byte
	err  error
}

func newLateBody(body io.ReadCloser, by time.Duration) *lateBody {
	l := &lateBody{body: body, pieces: make(chan piece, 1024), closed: make(chan struct{})}
	go l.pump(by)
	return l
}

func (l *lateBody) pump(by time.Duration) {
	for {
		buffer := make([]byte, 32<<10)
		n, err := l.body.Read(buffer)
		select {
		case l.pieces <- piece{due: time.Now().Add(by), data: buffer[:n], err: err}:
		case <-l.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader for one caller at a time.
func (l *lateBody) Read(p []byte) (int, error) {
	for len(l.rest.data) == 0 {
		if l.rest.err != nil {
			return 0, l.rest.err
		}
		select {
		case l.rest = <-l.pieces:
		case <-l.closed:
			return 0, io.ErrClosedPipe
		}
		select {
		case <-time.After(time.Until(l.rest.due)):
		case <-l.closed:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(p, l.rest.data)
	l.rest.data = l.rest.data[n:]
	return n, nil
}

// Close implements io.Closer.
func (l *lateBody) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.body.Close()
}
