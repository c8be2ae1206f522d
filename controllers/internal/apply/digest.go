// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// SecretTypeConfiguration is the type of Secrets that only Pods read. The cache has digests of their values.
const SecretTypeConfiguration corev1.SecretType = "itechsmart.dev/configuration"

// digestPrefix begins a digest. No configuration begins so.
const digestPrefix = "sha256:"

// Digest replaces the values of a Secret that only Pods read by their digests. Doing it again changes nothing.
func Digest(secret *corev1.Secret) {
	if secret.Type != SecretTypeConfiguration {
		return
	}
	for key, value := range secret.Data {
		if !strings.HasPrefix(string(value), digestPrefix) {
			secret.Data[key] = digestOf(value)
		}
	}
}

func digestOf(value []byte) []byte {
	sum := sha256.Sum256(value)
	return append([]byte(digestPrefix), sum[:]...)
}

// cached returns the content of want as the cache has it.
func cached(obj client.Object, want *unstructured.Unstructured) map[string]any {
	secret, ok := obj.(*corev1.Secret)
	if !ok || secret.Type != SecretTypeConfiguration {
		return want.Object
	}
	data := map[string]any{}
	for key, value := range secret.Data {
		data[key] = base64.StdEncoding.EncodeToString(digestOf(value))
	}
	content := maps.Clone(want.Object)
	content["data"] = data
	return content
}
