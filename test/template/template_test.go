// SPDX-License-Identifier: Apache-2.0

// Package template follows docs/adding-a-product.md exactly: it adds a product to a copy of the project by three folders
// and one value, builds it, and waits until its service is Ready on a real API server and a real PostgreSQL.
package template

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
)

const (
	product    = "greeter"
	namespace  = "tenant"
	patience   = time.Minute
	configName = "service.json"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // the API server's start is not of interest
	servers.Main(m)
}

func TestThreeFoldersAndOneValue(t *testing.T) {
	tree := copyProject(t)
	addProduct(t, tree)
	// make generate manifests, as far as the product is concerned.
	run(t, tree, "controller-gen", "object:headerFile=hack/boilerplate.go.txt", "paths=./api/"+product+"/...")
	run(t, tree, "controller-gen", "crd", "paths=./api/...", "output:crd:artifacts:config=config/crd")
	run(t, tree, "go", "run", "-trimpath", "-gcflags=all=-dwarf=false", "./hack/manifests")
	run(t, tree, "go", "build", "-trimpath", "-gcflags=all=-dwarf=false", "-o", filepath.Join(tree, "bin")+"/", "./cmd/manager", "./workloads/"+product)
	t.Run("generated", func(t *testing.T) { testGenerated(t, tree) })
	t.Run("ready", func(t *testing.T) { testReady(t, tree) })
}

// copyProject copies the files of the project that git tracks, and those it would add, to a folder of its own.
func copyProject(t *testing.T) string {
	t.Helper()
	root, tree := kube.Root(), t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(names), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(root, name)); errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		copyFile(t, filepath.Join(root, name), filepath.Join(tree, name))
	}
	return tree
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addProduct adds the three folders, and the value to the list.
func addProduct(t *testing.T, tree string) {
	t.Helper()
	if err := os.CopyFS(tree, os.DirFS(filepath.Join("testdata", "product"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tree, "controllers", "controllers.go")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := insert(t, string(data), "var Products = []product.Product{\n", "\t"+product+".Product,\n")
	list = insert(t, list, "import (\n", "\t\"github.com/itechsmart/operator/controllers/"+product+"\"\n")
	if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
}

func insert(t *testing.T, text, after, what string) string {
	t.Helper()
	if strings.Count(text, after) != 1 {
		t.Fatalf("controllers.go does not contain %q once", after)
	}
	return strings.Replace(text, after, after+what, 1)
}

// command returns a command in the tree, with the tools and the settings of the build: what both need is compiled once.
func command(tree, name string, args ...string) *exec.Cmd {
	if tool := filepath.Join(kube.Root(), ".local", "bin", name); name != "go" {
		name = tool
	}
	c := exec.Command(name, args...)
	c.Dir = tree
	c.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0", "PATH="+filepath.Join(kube.Root(), ".local", "bin")+":"+os.Getenv("PATH"))
	return c
}

func run(t *testing.T, tree, name string, args ...string) {
	t.Helper()
	if out, err := command(tree, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// testGenerated checks that what an installation needs of the product was generated.
func testGenerated(t *testing.T, tree string) {
	g := NewWithT(t)
	for file, want := range map[string]string{
		"config/argocd/argocd-cm.yaml":                                     "resource.customizations.health.greeter.itechsmart.dev_GreeterService:",
		"config/crd/kustomization.yaml":                                    "greeter.itechsmart.dev_greeterservices.yaml",
		"config/crd/greeter.itechsmart.dev_greeterservices.yaml":           "greeting:",
		"config/rbac/kustomization.yaml":                                   "greeter_service_role.yaml",
		"config/rbac/greeter_service_role.yaml":                            "name: itechsmart-greeter-service",
		"config/rbac/greeter_role.yaml":                                    "itechsmart-greeter-service",
		"config/rbac/role_bindings.yaml":                                   "name: itechsmart-greeter",
		filepath.Join("api", product, "v1alpha1/zz_generated.deepcopy.go"): "GreeterServiceList",
	} {
		data, err := os.ReadFile(filepath.Join(tree, file))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(data)).To(ContainSubstring(want), file)
	}
	out, err := command(tree, "go", "run", "-trimpath", "-gcflags=all=-dwarf=false", "./cmd/manager", "--image", "nobody=x").CombinedOutput()
	g.Expect(err).To(HaveOccurred())
	g.Expect(string(out)).To(ContainSubstring(product), "the manager knows the program")
}

// testReady installs the CRDs, runs the built manager, and takes the place of the Deployment controller: the built
// service runs with the configuration that the manager rendered, and then its resource is Ready.
func testReady(t *testing.T, tree string) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	g.SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	c := startManager(t, tree)
	applyProduct(t, c)
	key := client.ObjectKey{Namespace: namespace, Name: "main-" + product}
	var deployment appsv1.Deployment
	g.Eventually(func() error { return c.Get(t.Context(), key, &deployment) }).Should(Succeed(), "the Deployment of the service")
	g.Expect(deployment.Spec.Template.Spec.Containers[0].Image).To(HaveSuffix("/" + product + ":dev"))

	var secret corev1.Secret
	name := deployment.Spec.Template.Spec.Volumes[0].Secret.SecretName
	g.Eventually(func() error { return c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &secret) }).Should(Succeed())
	address := startService(t, tree, secret.Data[configName])
	g.Eventually(func() (string, error) { return get(address + "/api/v1/greeting") }).Should(ContainSubstring("good day"))

	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	g.Expect(c.Status().Update(t.Context(), &deployment)).To(Succeed())
	g.Eventually(func() string { return ready(t, c) }).Should(Equal("True"))
}

// startManager starts an API server and the manager on it.
func startManager(t *testing.T, tree string) client.Client {
	t.Helper()
	server, err := kube.StartWith(scheme.Scheme, filepath.Join(tree, "config", "crd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, server.Kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(filepath.Join(tree, "bin", "manager"), "--kubeconfig", path, "--metrics-bind-address", "0", "--health-probe-bind-address", "0"))
	return server.Client
}

// start runs a program until the test ends, and prints its output if the test failed.
func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait() // it was stopped
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(c.Path), log.String())
		}
	})
}

// applyProduct creates a Platform with an external PostgreSQL, and the product's service on it.
func applyProduct(t *testing.T, c client.Client) {
	t.Helper()
	binding := servers.Postgres(t)
	data := map[string]any{}
	for key, value := range binding.Data() {
		data[key] = value
	}
	for _, obj := range []map[string]any{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}},
		{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "pg", "namespace": namespace}, "stringData": data},
		{
			"apiVersion": "platform.itechsmart.dev/v1alpha1", "kind": "Platform", "metadata": map[string]any{"name": "main", "namespace": namespace},
			"spec": map[string]any{"backends": map[string]any{"postgresql": map[string]any{"external": map[string]any{"secretRef": map[string]any{"name": "pg"}}}}},
		},
		{
			"apiVersion": product + ".itechsmart.dev/v1alpha1", "kind": "GreeterService", "metadata": map[string]any{"name": product, "namespace": namespace},
			"spec": map[string]any{"platformRef": map[string]any{"name": "main"}, "greeting": "good day"},
		},
	} {
		if err := c.Create(t.Context(), &unstructured.Unstructured{Object: obj}); err != nil {
			t.Fatal(err)
		}
	}
}

// startService starts the service with its configuration, and returns its address.
func startService(t *testing.T, tree string, configuration []byte) string {
	t.Helper()
	if !json.Valid(configuration) {
		t.Fatal("the Secret holds no configuration")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configName), configuration, 0o600); err != nil {
		t.Fatal(err)
	}
	address := servers.FreeAddress(t)
	start(t, exec.Command(filepath.Join(tree, "bin", product), "-config", dir, "-listen", address, "-metrics-listen", "", "-spill", filepath.Join(dir, "spill")))
	return "http://" + address
}

func get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// ready returns the status of the service's condition Ready.
func ready(t *testing.T, c client.Client) string {
	t.Helper()
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion(product + ".itechsmart.dev/v1alpha1")
	obj.SetKind("GreeterService")
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: product}, obj); err != nil {
		return err.Error()
	}
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, item := range conditions {
		condition, ok := item.(map[string]any)
		if ok && condition["type"] == "Ready" {
			if condition["status"] == string(metav1.ConditionTrue) {
				return "True"
			}
			return fmt.Sprint(condition["reason"], ": ", condition["message"])
		}
	}
	return "no condition yet"
}
