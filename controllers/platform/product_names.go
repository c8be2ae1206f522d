// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
)

const (
	// componentIdentity is what all products of a Platform share.
	componentIdentity = "identity"
	// labelOwnerNamespace is on what is no namespace's.
	labelOwnerNamespace = "itechsmart.dev/owner-namespace"
	// portHTTP and portMetrics are the names of a service's ports.
	portHTTP, portMetrics = "http", "metrics"
	// volumeSpill is what the audit log writes to while the database is away.
	volumeSpill = "spill"
	// volumeBindings is what changes while service and worker run.
	volumeBindings = "bindings"
	// serviceUser is the user and group of our images.
	serviceUser = 65532
	// keys of the Secrets that are made once, beside keyUsername and keyPassword.
	keyMark, keySchema, keyPassphrase, keyKeys = "mark", "schema", "passphrase", "keys.json"
	// tenantPrefix begins the names of roles and schemas.
	tenantPrefix = "itechsmart_"
	// longestTenant is PostgreSQL's bound for names, in bytes.
	longestTenant = 63
)

// databaseName is the Secret with the credentials of a product's schema, or of the shared identity schema.
func databaseName(platform, component string) string {
	return workloadName(platform, component) + "-database"
}

func signingKeysName(platform string) string   { return platform + "-signing-keys" }
func administratorName(platform string) string { return platform + "-administrator" }
func unsealName(platform string) string {
	return workloadName(platform, v1alpha1.ProductVault) + "-unseal"
}

// configPrefix begins the names of a service's configuration Secrets; the rest is the hash of the content.
func configPrefix(platform, product string) string {
	return workloadName(platform, product) + "-config-"
}

// reviewerName is the ClusterRoleBinding by which a service may have tokens reviewed.
func reviewerName(namespace, platform, product string) string {
	return "itechsmart:" + namespace + ":" + workloadName(platform, product) + ":token-reviewer"
}

// tenantName is the name of a component's role and schema: itechsmart_<namespace>_<platform>_<component>. A hyphen becomes
// two underscores, so that no two triples have one name; what is too long ends in a hash.
func tenantName(namespace, platform, component string) string {
	plain := strings.ReplaceAll(namespace+"_"+platform+"_"+component, "-", "__")
	name := tenantPrefix + plain
	if len(name) <= longestTenant {
		return name
	}
	sum := sha256.Sum256([]byte(plain))
	hash := "_" + hex.EncodeToString(sum[:8])
	return name[:longestTenant-len(hash)] + hash
}

// productPath is where a product stands in the specification, for messages.
func productPath(product string) string { return "spec.products." + product }

// productSecrets names the Secrets of its namespace that a Platform's products depend on, as namespace/name.
func productSecrets(p *v1alpha1.Platform) []string {
	var out []string
	for i := range p.Spec.Auth.Clients {
		if ref := p.Spec.Auth.Clients[i].SecretRef; ref != nil {
			out = append(out, p.Namespace+"/"+ref.Name)
		}
	}
	for _, kind := range productTypes {
		if kind.pick(&p.Spec.Products) == nil || kind.references == nil {
			continue
		}
		for _, name := range kind.references(p) {
			out = append(out, p.Namespace+"/"+name)
		}
	}
	return out
}
