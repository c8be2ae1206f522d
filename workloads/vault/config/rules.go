// SPDX-License-Identifier: Apache-2.0

package config

import "github.com/itechsmart/operator/workloads/internal/auth"

// CheckCondition validates the CEL expression of an access rule, which the service evaluates. An empty one always holds.
func CheckCondition(when string) error { return auth.CheckCondition(when) }

// CheckPath returns what is wrong with the path of a rule; the service matches the same.
func CheckPath(path string) error { return auth.CheckPath(path) }
