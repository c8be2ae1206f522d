// SPDX-License-Identifier: Apache-2.0

// Package kube provides Kubernetes without nodes: a real API server (envtest) with the project's kinds, a Kubelet that
// reports every workload as running, and managers that can be crashed at any of their writes.
package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// SharedVariable names the environment variable with the path of a kubeconfig file: that of the API server that all packages of
// a test run share. hack/apiserver sets it.
const SharedVariable = "ITECHSMART_TEST_KUBECONFIG"

// Server is a running API server.
type Server struct {
	// Config connects to it without client-side rate limits.
	Config *rest.Config
	// Client is uncached.
	Client client.Client
	// Kubeconfig is the content of a kubeconfig file for other programs.
	Kubeconfig []byte

	env *envtest.Environment // nil: it is shared
}

// Start returns the API server of this test run, or starts one until Stop. It has the CRDs of config/crd and Gateway API's
// ReferenceGrant. Other packages use it at the same time: a test keeps to namespaces of its own, by names that no other has.
func Start(scheme *apiruntime.Scheme) (*Server, error) {
	path := os.Getenv(SharedVariable)
	if path == "" {
		return StartOwn(scheme)
	}
	kubeconfig, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SharedVariable, err)
	}
	s := &Server{Kubeconfig: kubeconfig}
	if s.Config, err = clientcmd.RESTConfigFromKubeConfig(kubeconfig); err != nil {
		return nil, fmt.Errorf("%s: %w", SharedVariable, err)
	}
	return s, s.connect(scheme)
}

// StartOwn starts an API server for what concerns the whole of it: objects without a namespace, or all namespaces.
func StartOwn(scheme *apiruntime.Scheme) (*Server, error) {
	gateway, err := moduleDir("sigs.k8s.io/gateway-api")
	if err != nil {
		return nil, err
	}
	return StartWith(scheme,
		filepath.Join(Root(), "config", "crd"),
		filepath.Join(gateway, "config", "crd", "standard", "gateway.networking.k8s.io_referencegrants.yaml"))
}

// StartWith is StartOwn with the CRDs of these files and folders alone.
func StartWith(scheme *apiruntime.Scheme, crds ...string) (*Server, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(Root(), ".local", "envtest")
	}
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		return nil, fmt.Errorf("no kube-apiserver in %s: run `make envtest`, or set KUBEBUILDER_ASSETS: %w", assets, err)
	}
	s := &Server{env: &envtest.Environment{BinaryAssetsDirectory: assets, ErrorIfCRDPathMissing: true, CRDDirectoryPaths: crds}}
	// The default range has 254 addresses of Services.
	s.env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	var err error
	if s.Config, err = s.env.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the API server: %w", err), s.env.Stop())
	}
	s.Kubeconfig = s.env.KubeConfig
	if err := s.connect(scheme); err != nil {
		return nil, errors.Join(err, s.env.Stop())
	}
	return s, nil
}

func (s *Server) connect(scheme *apiruntime.Scheme) (err error) {
	s.Config.QPS, s.Config.Burst = -1, -1
	s.Client, err = client.New(s.Config, client.Options{Scheme: scheme})
	return err
}

// Stop ends the server, unless it is shared.
func (s *Server) Stop() error {
	if s.env == nil {
		return nil
	}
	return s.env.Stop()
}

// Namespace creates a namespace with a name prefix. (There is no namespace controller: it stays.)
func (s *Server) Namespace(t testing.TB, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	if err := s.Client.Create(context.Background(), namespace); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	return namespace.Name
}

// Root returns the repository's directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// moduleDir returns the directory of a module's files.
func moduleDir(module string) (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = Root()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}
