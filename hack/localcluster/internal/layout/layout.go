// SPDX-License-Identifier: Apache-2.0

// Package layout names every path, address and identifier of the local cluster.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Addresses of the cluster. The node's address is the bridge's, so that it does not change with the machine's network.
const (
	NodeName      = "local"
	Bridge        = "itechsmart0"
	NodeIP        = "10.244.0.1"
	PodCIDR       = "10.244.0.0/16"
	PodRangeStart = "10.244.0.10"
	ServiceCIDR   = "10.96.0.0/16"
	ServiceIP     = "10.96.0.1" // the kubernetes Service
	DNSIP         = "10.96.0.10"
	ClusterDomain = "cluster.local"
	APIPort       = 6443
	EtcdPort      = 2379
	EtcdPeerPort  = 2380
	EtcdHealth    = 2381
)

// KubernetesVersion is the version that the programs report.
const KubernetesVersion = "v1.37.2"

// ContainerdNamespace is the containerd namespace in which the kubelet's images and containers live.
const ContainerdNamespace = "k8s.io"

// maxRoot is the maximum length of a checkout's path for which Unix sockets below it fit into their 108 bytes.
const maxRoot = 56

// Layout derives every path from the root of the checkout.
type Layout struct {
	// Root is the absolute path of the checkout: the directory that contains hack/localcluster.
	Root string
}

// Find returns the layout of root, or, if root is empty, of the nearest directory at or above start that contains
// hack/localcluster.
func Find(root, start string) (Layout, error) {
	if root != "" {
		abs, err := filepath.Abs(root)
		if err != nil {
			return Layout{}, fmt.Errorf("root %q: %w", root, err)
		}
		if !holdsModule(abs) {
			return Layout{}, fmt.Errorf("root %q: does not contain hack/localcluster", abs)
		}
		return resolve(abs)
	}
	dir, err := filepath.Abs(start)
	if err != nil {
		return Layout{}, fmt.Errorf("directory %q: %w", start, err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if holdsModule(d) {
			return resolve(d)
		}
		if d == filepath.Dir(d) {
			return Layout{}, errors.New("no directory from " + dir + " upwards contains hack/localcluster; specify the checkout with --root")
		}
	}
}

func resolve(dir string) (Layout, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Layout{}, fmt.Errorf("root %q: %w", dir, err)
	}
	return Layout{Root: real}, nil
}

func holdsModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "hack", "localcluster", "go.mod"))
	return err == nil
}

// ID returns the identifier of this checkout's cluster on the machine: the name of its cgroup and of its CNI network.
func (l Layout) ID() string {
	sum := sha256.Sum256([]byte(l.Root))
	return "itechsmart-" + hex.EncodeToString(sum[:4])
}

func (l Layout) local(parts ...string) string {
	return filepath.Join(append([]string{l.Root, ".local"}, parts...)...)
}

// Module returns the directory of the nested Go module.
func (l Layout) Module() string { return filepath.Join(l.Root, "hack", "localcluster") }

// Local returns the directory that everything is written to.
func (l Layout) Local() string { return l.local() }

// Bin returns the path of a built program.
func (l Layout) Bin(name string) string { return l.local("bin", name) }

// Envtest returns the assets directory of controller-runtime's envtest.
func (l Layout) Envtest() string { return l.local("envtest") }

// Kubeconfig returns the administrator's kubeconfig.
func (l Layout) Kubeconfig() string { return l.local("kubeconfig") }

// Images returns the directory of the cluster's own image tarballs.
func (l Layout) Images() string { return l.local("localcluster", "images") }

// ContainerdRoot returns containerd's image store; it outlives the cluster as a cache.
func (l Layout) ContainerdRoot() string { return l.local("containerd") }

// Cluster returns the directory of the cluster's state, removed by down.
func (l Layout) Cluster(parts ...string) string {
	return l.local(append([]string{"cluster"}, parts...)...)
}

// State returns the directory of files next to Unix sockets: below Cluster where their paths fit, else below /run.
func (l Layout) State(parts ...string) string {
	base := l.Cluster()
	if len(l.Root) > maxRoot {
		base = filepath.Join("/run", l.ID())
	}
	return filepath.Join(append([]string{base}, parts...)...)
}

// ContainerdSocket returns the socket of the cluster's own containerd.
func (l Layout) ContainerdSocket() string { return l.State("containerd", "containerd.sock") }

// KubeletRoot returns the kubelet's root directory.
func (l Layout) KubeletRoot() string { return l.State("kubelet") }

// Log returns the directory of the components' logs.
func (l Layout) Log(parts ...string) string { return l.Cluster(append([]string{"log"}, parts...)...) }

// Run returns the directory of the records of running components.
func (l Layout) Run(parts ...string) string { return l.Cluster(append([]string{"run"}, parts...)...) }

// Config returns the path of a rendered configuration file.
func (l Layout) Config(name string) string { return l.Cluster("config", name) }

// PKI returns the path of a certificate, key or kubeconfig of a component.
func (l Layout) PKI(name string) string { return l.Cluster("pki", name) }

// Volumes returns the directory of the persistent volumes.
func (l Layout) Volumes() string { return l.Cluster("volumes") }
