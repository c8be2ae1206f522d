// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// limits refuses what no handler should see.
func (s *Server) limits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := s.bodyLimit(r)
		if err := s.refuse(r, limit); err != nil {
			if r.ContentLength != 0 {
				// The rest of the request is not worth reading.
				w.Header()["Connection"] = []string{"close"}
			}
			problem.Write(w, r, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(raw(w), r.Body, limit)
		}
		next.ServeHTTP(w, r)
	})
}

// bodyLimit returns the maximum size of the request's body.
func (s *Server) bodyLimit(r *http.Request) int64 {
	if r.ContentLength >= 0 && r.ContentLength <= s.options.MaxBodyBytes {
		return s.options.MaxBodyBytes
	}
	_, pattern := s.large.Handler(r)
	return cmp.Or(s.options.LargeBodies[pattern], s.options.MaxBodyBytes)
}

func (s *Server) refuse(r *http.Request, limit int64) error {
	// A body is never decompressed: its decompressed size is unknown.
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		e := problem.New(http.StatusUnsupportedMediaType, "content_encoding", "a request's body must not be encoded")
		e.Headers = http.Header{"Accept-Encoding": {"identity"}} // RFC 7694
		return e
	}
	if r.ContentLength > limit {
		return problem.TooLarge(limit)
	}
	if p := r.URL.EscapedPath(); p != "" && p != "*" && !clean(p) || !text(r.URL.Path) {
		return problem.New(http.StatusBadRequest, "invalid_path", "the path has an empty segment, a dot segment, a control character or broken UTF-8")
	}
	if !textQuery(r.URL.RawQuery) {
		return problem.New(http.StatusBadRequest, "invalid_query", "the query has a control character, broken UTF-8 or a broken escape")
	}
	// These are written to logs and the audit log, which hold text.
	for _, name := range []string{"User-Agent", "Referer"} {
		if value := r.Header.Get(name); !utf8.ValidString(value) {
			r.Header.Set(name, strings.ToValidUTF8(value, "?"))
		}
	}
	return nil
}

// text reports whether a database can store it: UTF-8 without control characters.
func text(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// textQuery is text for a query, which may have line ends and tabs in its values.
func textQuery(query string) bool {
	if !strings.ContainsRune(query, '%') {
		return text(query)
	}
	decoded, err := url.QueryUnescape(query)
	return err == nil && utf8.ValidString(decoded) && !strings.ContainsRune(decoded, 0)
}

// clean reports whether a path, still escaped, is in its canonical form.
func clean(p string) bool {
	if p[0] != '/' {
		return false
	}
	cleaned := path.Clean(p)
	return cleaned == p || (cleaned != "/" && p[len(p)-1] == '/' && cleaned == p[:len(p)-1])
}

// raw returns net/http's own writer below its wrappers, which MaxBytesReader needs to close the connection.
func raw(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapped.Unwrap()
	}
}

// The values of security headers, shared between requests: they must not be changed in place.
var (
	noSniff      = []string{"nosniff"}
	noStore      = []string{"no-store"}
	noContent    = []string{"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}
	noReferrer   = []string{"no-referrer"}
	deny         = []string{"DENY"}
	sameOrigin   = []string{"same-origin"}
	strictlyTLS  = []string{"max-age=31536000; includeSubDomains"}
	varyOrigin   = []string{"Origin"}
	withCredence = []string{"true"}
)

// secured sets the headers that restrict a browser. A handler may overwrite them.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"] = noSniff
		h["Cache-Control"] = noStore
		h["Content-Security-Policy"] = noContent
		h["Referrer-Policy"] = noReferrer
		h["X-Frame-Options"] = deny
		h["Cross-Origin-Opener-Policy"] = sameOrigin
		h["Cross-Origin-Resource-Policy"] = sameOrigin
		if info := requestFrom(r.Context()); info != nil && info.https {
			h["Strict-Transport-Security"] = strictlyTLS
		}
		next.ServeHTTP(w, r)
	})
}
