// SPDX-License-Identifier: Apache-2.0

package notify_test

import (
	"context"
	"testing"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

func TestRefused(t *testing.T) {
	_, err := steps.New(step.Env{}).Execute(context.Background(), steptest.Call("notify", map[string]any{"channel": "pager"}))
	steptest.Permanent(t, err, "without the product Notify")
}
