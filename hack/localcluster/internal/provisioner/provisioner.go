// SPDX-License-Identifier: Apache-2.0

// Package provisioner provisions the default StorageClass of the local cluster: a directory on the node per claim.
package provisioner

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is the provisioner's name in a StorageClass.
const Name = "localcluster.itechsmart.dev/directory"

// Directories provisions volumes as directories of one node.
type Directories struct {
	// Dir is the path of the volumes for the provisioner, NodeDir their path on the node.
	Dir, NodeDir string
}

var _ controller.Provisioner = Directories{}

// Provision creates the directory and returns the volume, bound to the node that the scheduler chose.
func (d Directories) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if o.PVC.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("spec.selector: not supported by this StorageClass")
	}
	if mode := o.PVC.Spec.VolumeMode; mode != nil && *mode == corev1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("spec.volumeMode: Block is not supported by this StorageClass")
	}
	if o.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errors.New("no node selected: the StorageClass must bind WaitForFirstConsumer")
	}
	name := strings.Join([]string{o.PVName, o.PVC.Namespace, o.PVC.Name}, "_")
	path := filepath.Join(d.Dir, name)
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, controller.ProvisioningFinished, err
	}
	// Any user may write: pods run as users of their choice. The umask does not apply to chmod.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	reclaim := corev1.PersistentVolumeReclaimDelete
	if p := o.StorageClass.ReclaimPolicy; p != nil {
		reclaim = *p
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: reclaim,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			MountOptions:                  o.StorageClass.MountOptions,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(d.NodeDir, name)}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}}}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory with its contents.
func (d Directories) Delete(_ context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.Local == nil {
		return &controller.IgnoredError{Reason: "not a local volume"}
	}
	name, err := filepath.Rel(d.NodeDir, pv.Spec.Local.Path)
	if err != nil || name == "." || strings.Contains(name, "/") || strings.HasPrefix(name, "..") {
		return fmt.Errorf("volume %s: path %q is not a directory of this provisioner", pv.Name, pv.Spec.Local.Path)
	}
	return os.RemoveAll(filepath.Join(d.Dir, name))
}

// Run serves until the context ends. Flags: --directory, --node-directory, --health-address.
func Run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("provisioner", flag.ContinueOnError)
	dir := flags.String("directory", "/volumes", "directory of the volumes as this process sees it")
	nodeDir := flags.String("node-directory", "", "the same directory as the node sees it")
	health := flags.String("health-address", ":8082", "address that serves /readyz")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *nodeDir == "" {
		return errors.New("--node-directory: required")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		// Ready means that it can write volumes, and read its StorageClass.
		if info, err := os.Stat(*dir); err != nil || !info.IsDir() {
			http.Error(w, "volume directory is missing", http.StatusServiceUnavailable)
			return
		}
		if _, err := client.StorageV1().StorageClasses().List(r.Context(), metav1.ListOptions{Limit: 1}); err != nil {
			http.Error(w, "API server is not reachable", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	server := &http.Server{Addr: *health, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-ctx.Done():
			_ = server.Close()
		}
	}()
	controller.NewProvisionController(ctx, client, Name, Directories{Dir: *dir, NodeDir: *nodeDir},
		controller.LeaderElection(false), controller.Threadiness(4)).Run(ctx)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
