// SPDX-License-Identifier: Apache-2.0

package engine

const asWorker = "WORKFLOW_TEST_AS_WORKER"

func serve(string) int { return 0 }
