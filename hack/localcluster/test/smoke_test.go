// SPDX-License-Identifier: Apache-2.0

// Package test runs the local cluster for real: up, a restricted workload, crashes of every component, down, and a search
// for anything left behind. It needs root and a built checkout, and removes the checkout's cluster: LOCALCLUSTER_SMOKE=1
// go test -v -count=1 -timeout 20m ./test
package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/image"
	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
	"github.com/itechsmart/operator/hack/localcluster/internal/node"
)

type suite struct {
	*testing.T
	l layout.Layout
}

// try runs a program and returns what it prints.
func (s suite) try(input, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.l.Bin(program), args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Dir = s.l.Root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.l.Kubeconfig())
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s suite) must(program string, args ...string) string {
	s.Helper()
	out, err := s.try("", program, args...)
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// eventually calls check until it returns no error.
func (s suite) eventually(what string, limit time.Duration, check func() error) {
	s.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			s.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

func (s suite) up(what string) {
	s.Helper()
	begin := time.Now()
	out := s.must("localcluster", "up")
	s.Logf("up %s: %.1fs", what, time.Since(begin).Seconds())
	if os.Getenv("LOCALCLUSTER_SMOKE") == "verbose" {
		s.Log(out)
	}
	if out, err := s.try("", "localcluster", "status"); err != nil {
		s.Fatalf("status after up: %v\n%s", err, out)
	}
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

func TestSmoke(t *testing.T) {
	if os.Getenv("LOCALCLUSTER_SMOKE") == "" {
		t.Skip("removes the local cluster: set LOCALCLUSTER_SMOKE=1 to run it")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	l, err := layout.Find("", dir)
	if err != nil {
		t.Fatal(err)
	}
	s := suite{T: t, l: l}
	s.must("localcluster", "down")
	before := s.traces()
	s.up("from nothing")
	s.workload()
	s.settle()
	url := s.serviceURL()
	for _, name := range []string{"etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "all"} {
		s.must("localcluster", "kill", name)
		if out, err := s.try("", "localcluster", "status"); err == nil {
			t.Errorf("status succeeds after %s was killed:\n%s", name, out)
		}
		if _, err := get(url + "/starts"); err != nil {
			t.Errorf("the workload does not respond while %s is down: %v", name, err)
		}
		s.up("after kill -9 of " + name)
		s.eventually("response after kill of "+name, time.Minute, func() error { _, err := get(url + "/starts"); return err })
		s.must("kubectl", "rollout", "restart", "-n", "smoke", "deployment/web")
		s.must("kubectl", "rollout", "status", "-n", "smoke", "deployment/web", "--timeout=90s")
		s.settle()
	}
	begin := time.Now()
	s.must("localcluster", "down")
	t.Logf("down: %.1fs", time.Since(begin).Seconds())
	s.compare("down", before)
	s.up("again, images cached")
	s.killProcesses()
	s.up("after kill -9 of all, containers and shims included")
	s.must("localcluster", "kill", "all")
	s.must("localcluster", "down")
	s.compare("down after kill -9 of all", before)
}

// killProcesses kills every process of the cluster at once: components, shims and containers.
func (s suite) killProcesses() {
	deadline := time.Now().Add(10 * time.Second)
	left, err := node.NewCgroups(s.l.ID()).Kill(func() bool { return time.Now().Before(deadline) })
	if err != nil || left > 0 {
		s.Fatalf("kill: %d left, %v", left, err)
	}
}

// workload runs a restricted pod with a volume, a Service, limits and an autoscaler, and uses all of them.
func (s suite) workload() {
	web := filepath.Join(s.TempDir(), "web")
	build := exec.Command("go", "build", "-trimpath", "-o", web, "./web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("build: %v\n%s", err, out)
	}
	ref, file, err := image.Build(web, s.TempDir())
	if err != nil {
		s.Fatal(err)
	}
	s.must("localcluster", "load", file)
	if out := s.must("localcluster", "load", file); !strings.Contains(out, "already loaded") {
		s.Errorf("second load: %s", out)
	}
	manifest, err := os.ReadFile("testdata/smoke.yaml")
	if err != nil {
		s.Fatal(err)
	}
	if out, err := s.try(strings.ReplaceAll(string(manifest), "IMAGE", ref), "kubectl", "apply", "-f", "-"); err != nil {
		s.Fatalf("apply: %v\n%s", err, out)
	}
	s.must("kubectl", "rollout", "status", "-n", "smoke", "deployment/web", "--timeout=90s")
	exec := func(args ...string) string {
		s.Helper()
		return s.must("kubectl", append([]string{"exec", "-n", "smoke", "deploy/web", "--", "/web"}, args...)...)
	}
	if got := exec("get", "http://web.smoke.svc.cluster.local:8080/starts"); got != "1" {
		s.Errorf("the pod's own Service by DNS name: %q, want 1", got)
	}
	for field, want := range map[string]string{"Seccomp": "2", "CapEff": "0000000000000000", "NoNewPrivs": "1", "Uid": "10001\t10001\t10001\t10001"} {
		if got := exec("status", field); got != want {
			s.Errorf("%s of the pod: %q, want %q", field, got, want)
		}
	}
	if got := s.must("kubectl", "logs", "-n", "smoke", "deploy/web"); got != "serving as user 10001" {
		s.Errorf("logs: %q", got)
	}
	s.eventually("OOM kill of the glutton", time.Minute, func() error {
		got := s.must("kubectl", "get", "pod", "-n", "smoke", "glutton", "-o=jsonpath={.status.containerStatuses[0].state.terminated.reason}")
		if got != "OOMKilled" {
			return fmt.Errorf("reason %q", got)
		}
		return nil
	})
	s.portForward()
	s.metrics()
}

// settle waits until no pod of the workload starts or terminates.
func (s suite) settle() {
	s.Helper()
	s.eventually("workload settled", 2*time.Minute, func() error {
		var pods struct {
			Items []struct {
				Metadata struct{ DeletionTimestamp string }
				Status   struct{ ContainerStatuses []struct{ Ready bool } }
			}
		}
		out := s.must("kubectl", "get", "pods", "-n", "smoke", "-l", "app=web", "-o=json")
		if err := json.Unmarshal([]byte(out), &pods); err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.Metadata.DeletionTimestamp != "" || len(pod.Status.ContainerStatuses) == 0 || !pod.Status.ContainerStatuses[0].Ready {
				return fmt.Errorf("%d pods, not all of them ready", len(pods.Items))
			}
		}
		return nil
	})
}

func (s suite) serviceURL() string {
	return "http://" + s.must("kubectl", "get", "service", "-n", "smoke", "web", "-o=jsonpath={.spec.clusterIP}") + ":8080"
}

func (s suite) portForward() {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, s.l.Bin("kubectl"), "port-forward", "-n", "smoke", "service/web", "18097:8080")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.l.Kubeconfig())
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	s.eventually("port-forward", 20*time.Second, func() error { _, err := get("http://127.0.0.1:18097/starts"); return err })
}

// metrics waits until the autoscaler acts on metrics-server's measurements, and until the CPU limit takes effect.
func (s suite) metrics() {
	s.eventually("autoscaling", 3*time.Minute, func() error {
		var hpa struct {
			Status struct{ DesiredReplicas int }
		}
		out := s.must("kubectl", "get", "hpa", "-n", "smoke", "web", "-o=json")
		if err := json.Unmarshal([]byte(out), &hpa); err != nil {
			return err
		}
		if hpa.Status.DesiredReplicas != 2 {
			return fmt.Errorf("desired replicas: %d", hpa.Status.DesiredReplicas)
		}
		return nil
	})
	s.Log(s.must("kubectl", "top", "nodes"))
	s.Log(s.must("kubectl", "top", "pods", "-A"))
	s.eventually("CPU limit of 100m", time.Minute, func() error {
		var milli int
		out := s.must("kubectl", "top", "pod", "-n", "smoke", "-l", "app=web", "--no-headers")
		fields := strings.Fields(out)
		if len(fields) < 2 {
			return fmt.Errorf("no metrics: %q", out)
		}
		if _, err := fmt.Sscanf(fields[1], "%dm", &milli); err != nil {
			return err
		}
		if milli < 60 || milli > 115 {
			return fmt.Errorf("a busy loop uses %dm", milli)
		}
		return nil
	})
}
