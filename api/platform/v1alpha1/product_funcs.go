// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "fmt"

// The products' names, as in spec.products.
const (
	ProductVault    = "vault"
	ProductWorkflow = "workflow"
)

// TokenAudience is the issuer and audience of tokens on every Platform, and so the audience of the ServiceAccount tokens
// that its products take.
const TokenAudience = "itechsmart"

// productPort is where every product service serves REST.
const productPort = 8080

// ProductURL is where a product is reached inside of the cluster, without a path.
func (p *Platform) ProductURL(product string) string {
	return fmt.Sprintf("http://%s-%s.%s.svc:%d", p.Name, product, p.Namespace, productPort)
}

// ProductBindingsName is the Secret with what the resources of a product name in other systems, for those products that have it.
func (p *Platform) ProductBindingsName(product string) string {
	return p.Name + "-" + product + "-bindings"
}

// Has tells whether the specification has the product.
func (p *Products) Has(product string) bool {
	switch product {
	case ProductVault:
		return p.Vault != nil
	case ProductWorkflow:
		return p.Workflow != nil
	}
	return false
}

// Product returns the status row of a product, nil when there is none.
func (s *PlatformStatus) Product(name string) *ProductStatus {
	for i := range s.Products {
		if s.Products[i].Name == name {
			return &s.Products[i]
		}
	}
	return nil
}
