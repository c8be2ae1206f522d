// SPDX-License-Identifier: Apache-2.0

package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func options(change func(*controller.ProvisionOptions)) controller.ProvisionOptions {
	o := controller.ProvisionOptions{
		StorageClass: &storagev1.StorageClass{}, PVName: "pvc-1", SelectedNodeName: "local",
		PVC: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		},
	}
	if change != nil {
		change(&o)
	}
	return o
}

func TestProvisionAndDelete(t *testing.T) {
	d := Directories{Dir: t.TempDir(), NodeDir: "/node/volumes"}
	pv, _, err := d.Provision(t.Context(), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := pv.Spec.Local.Path; got != "/node/volumes/pvc-1_tenant_data" {
		t.Errorf("path %q", got)
	}
	dir := filepath.Join(d.Dir, "pvc-1_tenant_data")
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Fatalf("directory: %v, %v", info, err)
	}
	if _, _, err := d.Provision(t.Context(), options(nil)); err != nil {
		t.Errorf("a second attempt: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Delete(t.Context(), pv); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory still exists: %v", err)
	}
}

func TestProvisionRefuses(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for name, change := range map[string]func(*controller.ProvisionOptions){
		"selector": func(o *controller.ProvisionOptions) { o.PVC.Spec.Selector = &metav1.LabelSelector{} },
		"block":    func(o *controller.ProvisionOptions) { o.PVC.Spec.VolumeMode = &block },
		"no node":  func(o *controller.ProvisionOptions) { o.SelectedNodeName = "" },
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := (Directories{Dir: t.TempDir()}).Provision(t.Context(), options(change)); err == nil {
				t.Error("is provisioned")
			}
		})
	}
}

func TestDeleteOutside(t *testing.T) {
	outside := t.TempDir()
	d := Directories{Dir: filepath.Join(outside, "volumes"), NodeDir: "/node/volumes"}
	for _, path := range []string{"/node/volumes", "/node", "/node/volumes/../other", "/node/volumes/a/b", "/etc"} {
		pv := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}}}}
		if err := d.Delete(t.Context(), pv); err == nil {
			t.Errorf("%s is deleted", path)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}
