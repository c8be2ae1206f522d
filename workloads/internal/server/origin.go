// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

const defaultPreflightAge = 10 * time.Minute

var (
	allowedMethods = []string{"GET, HEAD, POST, PUT, PATCH, DELETE"}
	allowedHeaders = []string{"Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-Id"}
	exposedHeaders = []string{"ETag, Idempotency-Replayed, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"}
)

// crossOrigin answers preflights, sends browsers the allowed origins, and refuses writes that another site makes a
// browser send.
//
// The last is net/http's CrossOriginProtection (Sec-Fetch-Site, and Origin against Host where that is missing), which
// needs no token. It applies to requests without an Authorization header, because a browser adds cookies by itself but
// never that header.
func crossOrigin(c config.CORS) (func(http.Handler) http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range c.Origins {
		if err := checkOrigin(origin); err != nil {
			return nil, err
		}
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("cors.origins: %w", err)
		}
	}
	origins := slices.Clone(c.Origins)
	age := []string{strconv.Itoa(int(c.MaxAge.Or(defaultPreflightAge).Seconds()))}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origin := r.Header.Get("Origin")
			known := origin != "" && slices.Contains(origins, origin)
			h := w.Header()
			if len(origins) > 0 {
				h["Vary"] = varyOrigin
			}
			if known {
				h["Access-Control-Allow-Origin"] = []string{origin}
				h["Access-Control-Allow-Credentials"] = withCredence
				h["Access-Control-Expose-Headers"] = exposedHeaders
			}
			if r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != "" {
				SetRoute(r.Context(), "preflight")
				if !known {
					problem.Write(w, r, problem.New(http.StatusForbidden, "origin", "this origin may not call"))
					return
				}
				h["Access-Control-Allow-Methods"], h["Access-Control-Allow-Headers"], h["Access-Control-Max-Age"] = allowedMethods, allowedHeaders, age
				w.WriteHeader(http.StatusNoContent)
				return
			}
			if r.Header.Get("Authorization") == "" {
				if err := protection.Check(r); err != nil {
					problem.Write(w, r, problem.New(http.StatusForbidden, "cross_origin", "another site sent this request: log in there, or list the site among the origins"))
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}, nil
}

// checkOrigin refuses anything but an exact origin: with credentials "*" would admit every site.
func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || origin != u.Scheme+"://"+u.Host {
		return fmt.Errorf("cors.origins: %q is not an exact origin such as https://console.example.com", origin)
	}
	return nil
}
