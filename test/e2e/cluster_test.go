// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the operator on the local cluster that `make up` has started.
package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers"
	"github.com/itechsmart/operator/internal/backend"
)

const (
	// namespace is the quickstart's: its Platform serves the tests too.
	namespace = "quickstart"
	// patience limits everything; the time taken is printed.
	patience = 3 * time.Minute
	often    = 500 * time.Millisecond
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// cluster is the local cluster, as seen from its node.
type cluster struct {
	*WithT
	t      *testing.T
	ctx    context.Context
	client client.Client
}

func connect(t *testing.T) *cluster {
	t.Helper()
	g := NewWithT(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig())
	g.Expect(err).NotTo(HaveOccurred(), "run `make up` first")
	cfg.QPS = -1
	scheme := apiruntime.NewScheme()
	g.Expect(controllers.AddToScheme(scheme)).To(Succeed())
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred(), "run `make up` first")
	return &cluster{WithT: g, t: t, ctx: t.Context(), client: c}
}

// kubeconfig returns the path for the cluster under test: the environment's, or that of make up.
func kubeconfig() string {
	return cmp.Or(os.Getenv("KUBECONFIG"), filepath.Join(root(), ".local", "kubeconfig"))
}

func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// binding returns the binding of a backend of the quickstart's Platform.
func (c *cluster) binding(name string) backend.Binding {
	c.t.Helper()
	var secret corev1.Secret
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: "main-" + name + "-binding"}, &secret)).To(Succeed())
	b := backend.ParseBinding(secret.Data)
	var service corev1.Service
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: "main-" + name}, &service)).To(Succeed())
	b.Host = service.Spec.ClusterIP // the node reaches Services by address, not by name
	return b
}

// rows runs a query that returns numbers in one line.
func (c *cluster) rows(sql string) ([]int64, error) {
	return query(c.ctx, c.binding("clickhouse"), sql)
}

// query runs one statement over ClickHouse's HTTP interface.
func query(ctx context.Context, b backend.Binding, sql string) ([]int64, error) {
	address := url.URL{Scheme: "http", Host: b.Address(), Path: "/"}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-ClickHouse-User", b.Username)
	request.Header.Set("X-ClickHouse-Key", b.Password)
	transport := &http.Transport{DisableKeepAlives: true} // the environment's proxy does not apply
	response, err := (&http.Client{Timeout: 20 * time.Second, Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	var out []int64
	for _, field := range strings.Fields(string(body)) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("answer %q: %w", body, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// count runs a query for one number; it waits for a server that is restarting.
func (c *cluster) count(sql string) int64 {
	c.t.Helper()
	var out []int64
	c.Eventually(func() error {
		var err error
		out, err = c.rows(sql)
		return err
	}, patience, often).Should(Succeed())
	c.Expect(out).To(HaveLen(1))
	return out[0]
}

func (c *cluster) pipeline(name string) *dataflowv1alpha1.Pipeline {
	c.t.Helper()
	var p dataflowv1alpha1.Pipeline
	c.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &p)).To(Succeed())
	return &p
}

// create creates a Pipeline, after removing one of an earlier run.
func (c *cluster) create(p *dataflowv1alpha1.Pipeline) {
	c.t.Helper()
	c.remove(p.Name)
	p.Namespace = namespace
	c.Expect(c.client.Create(c.ctx, p)).To(Succeed())
}

func (c *cluster) remove(name string) {
	c.t.Helper()
	p := &dataflowv1alpha1.Pipeline{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	c.Expect(client.IgnoreNotFound(c.client.Delete(c.ctx, p))).To(Succeed())
	c.Eventually(func() bool {
		return apierrors.IsNotFound(c.client.Get(c.ctx, client.ObjectKeyFromObject(p), p))
	}, patience, often).Should(BeTrue(), "Pipeline %s still exists", name)
}

func (c *cluster) edit(name string, change func(*dataflowv1alpha1.PipelineSpec)) {
	c.t.Helper()
	p := c.pipeline(name)
	base := p.DeepCopy()
	change(&p.Spec)
	c.Expect(c.client.Patch(c.ctx, p, client.MergeFrom(base))).To(Succeed())
}

// ready waits until a Pipeline is Ready at its current generation, in the given phase.
func (c *cluster) ready(name string, phase dataflowv1alpha1.Phase) {
	c.t.Helper()
	start := time.Now()
	c.Eventually(func(g Gomega) {
		var p dataflowv1alpha1.Pipeline
		g.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: name}, &p)).To(Succeed())
		condition := meta.FindStatusCondition(p.Status.Conditions, "Ready")
		g.Expect(condition).NotTo(BeNil())
		g.Expect(condition.ObservedGeneration).To(Equal(p.Generation))
		g.Expect(string(condition.Status)).To(Equal("True"), "%s: %s", condition.Reason, condition.Message)
		g.Expect(p.Status.Phase).To(Equal(phase))
	}, patience, often).Should(Succeed())
	c.t.Logf("Pipeline %s is %s after %.1f s", name, phase, time.Since(start).Seconds())
}

// restarts returns the number of container restarts of Pods, and whether all of them are Ready.
func (c *cluster) restarts(in string, labels map[string]string) (int32, bool) {
	c.t.Helper()
	var pods corev1.PodList
	c.Expect(c.client.List(c.ctx, &pods, client.InNamespace(in), client.MatchingLabels(labels))).To(Succeed())
	var sum int32
	ready := len(pods.Items) > 0
	for i := range pods.Items {
		for _, container := range pods.Items[i].Status.ContainerStatuses {
			sum += container.RestartCount
			ready = ready && container.Ready
		}
	}
	return sum, ready
}

// kill sends SIGKILL to the processes of the Pods with the given labels, like a crash. They are found by their Pod's UID
// in /proc, so nothing else is affected.
func (c *cluster) kill(in string, labels map[string]string) {
	c.t.Helper()
	var pods corev1.PodList
	c.Expect(c.client.List(c.ctx, &pods, client.InNamespace(in), client.MatchingLabels(labels))).To(Succeed())
	killed := 0
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning {
			killed += killPod(string(pods.Items[i].UID))
		}
	}
	c.Expect(killed).To(BeNumerically(">", 0), "no process of %v was found", labels)
}

// crash kills Pods, and waits until the kubelet has restarted them and they are Ready.
func (c *cluster) crash(in string, labels map[string]string) {
	c.t.Helper()
	before, _ := c.restarts(in, labels)
	c.kill(in, labels)
	c.Eventually(func(g Gomega) {
		restarts, ready := c.restarts(in, labels)
		g.Expect(restarts).To(BeNumerically(">", before), "the kubelet has not restarted it")
		g.Expect(ready).To(BeTrue(), "it is not Ready again")
	}, patience, often).Should(Succeed())
}

func killPod(uid string) int {
	killed := 0
	entries, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, entry := range entries {
		data, err := os.ReadFile(entry)
		if err != nil || !(strings.Contains(string(data), uid) || strings.Contains(string(data), strings.ReplaceAll(uid, "-", "_"))) {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(filepath.Dir(entry), "comm"))
		if err != nil || strings.TrimSpace(string(comm)) == "pause" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// localcluster runs the command that controls the node's components.
func (c *cluster) localcluster(args ...string) {
	c.t.Helper()
	c.Expect(localcluster(c.ctx, args...)).To(Succeed())
}

func localcluster(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, filepath.Join(root(), ".local", "bin", "localcluster"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("localcluster %v: %w: %s", args, err, out)
	}
	return nil
}

func raw(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }
