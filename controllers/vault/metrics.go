// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
)

var (
	expiresDesc = prometheus.NewDesc("itechsmart_vault_secret_expiry_timestamp_seconds",
		"When the version of a vault Secret that is in use expires; absent when it never does.", []string{"namespace", "name"}, nil)
	rotationDesc = prometheus.NewDesc("itechsmart_vault_secret_next_rotation_timestamp_seconds",
		"When the next rotation of a vault Secret is due; absent without spec.rotation.", []string{"namespace", "name"}, nil)
)

// collector reads the cache at each scrape: it keeps no state, and no series of a deleted Secret.
type collector struct{ reader client.Reader }

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- expiresDesc
	out <- rotationDesc
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	var secrets vaultv1alpha1.SecretList
	if err := c.reader.List(context.Background(), &secrets, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache is not there yet
	}
	for i := range secrets.Items {
		s := &secrets.Items[i]
		for desc, at := range map[*prometheus.Desc]*metav1.Time{expiresDesc: s.Status.ExpiresAt, rotationDesc: s.Status.NextRotation} {
			if at != nil {
				out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(at.Unix()), s.Namespace, s.Name)
			}
		}
	}
}

// registering serializes managers of one process that start at the same time: replacing a collector takes two calls.
var registering sync.Mutex

// registerMetrics replaces the collector of an earlier manager of this process.
func registerMetrics(reader client.Reader) error {
	registering.Lock()
	defer registering.Unlock()
	c := &collector{reader: reader}
	err := metrics.Registry.Register(c)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		metrics.Registry.Unregister(known.ExistingCollector)
		err = metrics.Registry.Register(c)
	}
	if err != nil {
		return fmt.Errorf("metrics of vault Secrets: %w", err)
	}
	return nil
}
