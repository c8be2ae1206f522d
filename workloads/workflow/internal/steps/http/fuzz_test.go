// SPDX-License-Identifier: Apache-2.0

package http_test

import (
	"context"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

func certificate(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// FuzzConfig: any evaluated `with` is sent as valid HTTP or rejected with a field, and never reveals the connection's secret.
func FuzzConfig(f *testing.F) {
	server := serve(f, echo)
	const secret = "s3cret-s3cret"
	set := newSet(f, step.Env{Connections: steptest.Connections{"api": backend.Binding{Type: "http", URI: server.URL, Extra: map[string]string{"token": secret}}}})
	for _, seed := range []string{
		`{"url":"/"}`, `{"url":"/%zz"}`, `{"url":"//x/y"}`, `{"url":"?a=b","query":{"c":"d"}}`, `{"url":"/","method":"POST","body":{"a":[1]}}`, `{"url":"/","headers":{"a":"b","A":"c"}}`,
		`{"url":"/","expect":["2xx",404]}`, `{"url":"/","timeout":"1ns"}`, `{"url":"/","headers":{"Authorization":"mine"}}`, `{"url":"/\u0000"}`, `{"url":"/","method":"HEAD","body":"x"}`, `{"url":"/?status=500"}`,
		`{"url":"/","headers":{"Expect":"100-continue"},"method":"PUT","body":"x"}`, `{"url":5}`, `{"url":"/","body":null}`, `{"url":"/../..","maxResponseBytes":5}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value, err := step.Decode([]byte(text))
		config, ok := value.(map[string]any)
		if err != nil || !ok {
			return
		}
		config["connection"] = "api" // only the test's server is dialed
		if _, ok := config["timeout"]; !ok {
			config["timeout"] = "20s"
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		got, err := set.Execute(ctx, steptest.Call("http", config))
		if err != nil {
			named := strings.Contains(err.Error(), "with.") || strings.Contains(err.Error(), "http://127.0.0.1") || strings.Contains(err.Error(), "output")
			if !named || strings.Contains(err.Error(), secret) {
				t.Fatalf("got %q", err)
			}
			return
		}
		if output, ok := got.Output.(map[string]any); !ok || output["status"] == nil || step.Check(output, 1<<20) != nil {
			t.Fatalf("got %v", got.Output)
		}
	})
}
