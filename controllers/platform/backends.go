// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

// backendTypes is the one list of backing systems: another one adds its file and a line here.
var backendTypes = []*backendType{
	postgresqlBackend,
	kafkaBackend,
	clickhouseBackend,
	redisBackend,
	rabbitmqBackend,
	objectStorageBackend,
}

// backendType is all that the controller knows of one backing system.
type backendType struct {
	// name as in spec.backends, in labels and in the binding's `type`.
	name string
	// title is the system's own name, for messages.
	title string
	// port that clients connect to.
	port int32
	// pick finds the backend in a specification; nil when it has none.
	pick func(*v1alpha1.Backends) *v1alpha1.Backend
	// image is the official one, tag included.
	image string
	// username that the managed server is made with.
	username string
	// sizing is the managed container's default resources.
	sizing workload.Sizing
	// reserved are the settings that the operator alone sets; spec.…config may not name them.
	reserved []string
	// server describes the managed server; nil: managed is not supported.
	server func(serverInput) server
	// bind adds to a managed binding what is particular to the system: database, mechanism, ….
	bind func(*backend.Binding)
	// uri composes the uri of a binding that has none.
	uri func(backend.Binding) string
	// complete fills an external binding from keys that stand for others, or says what is wrong with it; may be nil.
	complete func(*backend.Binding) string
	// required are the keys that an external Secret must have, beside host and port.
	required []string
	// operated describes how another operator runs it; nil: not supported.
	operated *operatedType
	// probe logs in and asks for the version.
	probe func(ctx context.Context, b backend.Binding) (version string, err error)
}

// serverInput is the input for the description of a managed server.
type serverInput struct {
	// host is the Service's name as clients write it.
	host string
	// memory is the container's limit in bytes.
	memory int64
	// config has the settings that the user adds or overrides.
	config map[string]string
}

// server describes one managed server; renderManaged makes the objects from it.
type server struct {
	// uid is the user and group id of the official image.
	uid           int64
	command, args []string
	// secretEnv maps environment variables to keys of the credentials Secret.
	secretEnv map[string]string
	env       map[string]string
	// ports beside the client's.
	ports []port
	// dataPath is where the volume is mounted.
	dataPath string
	// scratch are the directories that the server writes to and that need not last.
	scratch []scratch
	// files is the ConfigMap's content, mounted as mounts say.
	files  map[string]string
	mounts []fileMount
	// startup and readiness ask the server, as its clients would; liveness only whether it lives.
	startup, readiness, liveness corev1.ProbeHandler
	// preStop ends the server where a signal is not enough.
	preStop []string
	// grace is the termination grace period, in seconds.
	grace int64
}

type port struct {
	name   string
	number int32
}

// scratch is an emptyDir.
type scratch struct {
	name, path string
	// memory makes it a tmpfs of at most limit.
	memory bool
	limit  string
}

// fileMount puts the ConfigMap, or one file of it, into the container.
type fileMount struct {
	path string
	// file of the ConfigMap; empty: all of them, and path is a directory.
	file string
}

// operatedType describes how another operator runs a backend.
type operatedType struct {
	// operator to install, for messages.
	operator string
	// kinds that its CRDs define, with their versions by preference.
	kinds []dynamic.Kind
	// render is pure: specification to custom resources. versions has the served version of each kind.
	render func(operatedInput) []*unstructured.Unstructured
	// ready reads the main resource's status: nil, or what is missing.
	ready func(objects map[string]*unstructured.Unstructured) (ok bool, message string)
	// secrets that the operator writes for a resource of that name.
	secrets func(name string) []string
	// bind makes the binding from the Secrets, in the order of secrets, and the resources.
	bind func(in operatedInput, secrets []*corev1.Secret, objects map[string]*unstructured.Unstructured) (backend.Binding, error)
}

// operatedInput is the input for the resources of an operated backend.
type operatedInput struct {
	name, namespace, platform string
	labels                    map[string]string
	spec                      *v1alpha1.OperatedBackend
	// remove is true when data is deleted with the resource.
	remove bool
	// versions is the group-version-kind that the cluster serves, by kind.
	versions map[string]schema.GroupVersionKind
}

func backendTypeByName(name string) *backendType {
	for _, kind := range backendTypes {
		if kind.name == name {
			return kind
		}
	}
	return nil
}
