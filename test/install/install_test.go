// SPDX-License-Identifier: Apache-2.0

// Package install applies config/default to an empty API server, as `kubectl apply -k` does, and runs the manager with
// the permissions of its ServiceAccount.
package install

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/controllers"
	"github.com/itechsmart/operator/test/kube"
)

// managerUser is the manager's user name at the API server.
const managerUser = "system:serviceaccount:itechsmart-system:itechsmart"

// shared holds the API server, and what is installed on it.
var shared struct {
	scheme    *runtime.Scheme
	config    *rest.Config
	client    client.Client
	installed []unstructured.Unstructured
}

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.New(forbidden))
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server, err := start()
	if err == nil {
		defer func() { _ = server.Stop() }()
		err = install(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		return 1
	}
	return m.Run()
}

// start runs an API server without any kind of ours.
func start() (*kube.Server, error) {
	shared.scheme = runtime.NewScheme()
	if err := errors.Join(controllers.AddToScheme(shared.scheme), apiextensionsv1.AddToScheme(shared.scheme)); err != nil {
		return nil, err
	}
	server, err := kube.StartWith(shared.scheme)
	if err == nil {
		shared.config, shared.client = server.Config, server.Client
	}
	return server, err
}

// install applies what kustomize builds, in its order.
func install(ctx context.Context) error {
	command := exec.CommandContext(ctx, filepath.Join(kube.Root(), ".local", "bin", "kustomize"), "build", filepath.Join(kube.Root(), "config", "default"))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("kustomize (`make tools` builds it): %w\n%s", err, stderr.String())
	}
	for _, document := range bytes.Split(out, []byte("\n---\n")) {
		var obj unstructured.Unstructured
		if err := yaml.Unmarshal(document, &obj.Object); err != nil {
			return err
		}
		if err := shared.client.Create(ctx, obj.DeepCopy()); err != nil {
			return fmt.Errorf("create %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		shared.installed = append(shared.installed, obj)
	}
	return established(ctx)
}

// established waits until the API server serves every kind that was applied.
func established(ctx context.Context) error {
	for {
		var list apiextensionsv1.CustomResourceDefinitionList
		if err := shared.client.List(ctx, &list); err != nil {
			return err
		}
		waiting := slices.DeleteFunc(list.Items, func(crd apiextensionsv1.CustomResourceDefinition) bool {
			return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
				return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
			})
		})
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not served: %w", waiting[0].Name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestEveryKindIsServed: a manager would wait forever for kinds that are not installed.
func TestEveryKindIsServed(t *testing.T) {
	ours := map[string]bool{}
	for gvk := range shared.scheme.AllKnownTypes() {
		obj, err := shared.scheme.New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := obj.(client.Object); !ok || !strings.HasSuffix(gvk.Group, ".itechsmart.dev") {
			continue
		}
		mapping, err := shared.client.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			t.Errorf("%s: %v", gvk, err)
			continue
		}
		ours[mapping.Resource.Resource+"."+gvk.Group] = true
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := shared.client.List(t.Context(), list); err != nil {
			t.Errorf("list %s: %v", gvk, err)
		}
	}
	if len(ours) == 0 {
		t.Fatal("the scheme has no kind of ours")
	}
	for _, obj := range shared.installed {
		if obj.GetKind() == "CustomResourceDefinition" && !ours[obj.GetName()] {
			t.Errorf("%s is installed, but has no controller", obj.GetName())
		}
	}
}
