// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// terminationLog is the file from which Kubernetes reads a container's termination message, up to 4 KiB.
const (
	terminationLog      = "/dev/termination-log"
	terminationLogBytes = 4096
)

// CheckResult is the output of `check`.
type CheckResult struct {
	OK       bool           `json:"ok"`
	Failures []CheckFailure `json:"failures"`
}

// CheckFailure is one invalid field, or one failed test.
type CheckFailure struct {
	// Test is the test's name; "" for an error in the configuration.
	Test string `json:"test"`
	// Message says what is wrong; it may show the test's own records, never a credential.
	Message string `json:"message"`
}

var errCheck = errors.New("check failed")

// runCheck validates and tests, prints the result, and returns an error if anything failed.
func runCheck(f flags, out io.Writer, terminationPath string) error {
	result := CheckResult{Failures: []CheckFailure{}}
	cfg, _, err := config.Load(f.config)
	if err != nil {
		result.Failures = append(result.Failures, CheckFailure{Message: err.Error()})
	} else {
		result.Failures = append(result.Failures, Check(cfg)...)
	}
	result.OK = len(result.Failures) == 0
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if _, err := out.Write(append(data, '\n')); err != nil {
		return err
	}
	if err := writeTermination(terminationPath, result); err != nil {
		return err
	}
	if !result.OK {
		return errCheck
	}
	return nil
}

// writeTermination writes as many failures as fit, as valid JSON. It does not create a missing file.
func writeTermination(path string, result CheckResult) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("termination log: %w", err)
	}
	defer func() { _ = file.Close() }()
	_, err = file.Write(fitted(result, terminationLogBytes))
	return err
}

func fitted(result CheckResult, limit int) []byte {
	const longest = 1000
	short := CheckResult{OK: result.OK, Failures: []CheckFailure{}}
	data, _ := json.Marshal(short)
	for _, failure := range result.Failures {
		if len(failure.Message) > longest {
			failure.Message = strings.ToValidUTF8(failure.Message[:longest], "") + "…"
		}
		short.Failures = append(short.Failures, failure)
		longer, _ := json.Marshal(short)
		if len(longer) > limit {
			break
		}
		data = longer
	}
	return data
}

// Check validates a configuration and, if it is valid, runs its tests.
func Check(cfg *config.Pipeline) []CheckFailure {
	if err := validate(cfg); err != nil {
		return []CheckFailure{{Message: err.Error()}}
	}
	var failures []CheckFailure
	if _, err := NewEngine(cfg, nil); err != nil {
		return []CheckFailure{{Message: err.Error()}}
	}
	for _, failure := range transform.RunTests(cfg) {
		message := failure.Message
		if failure.Index >= 0 {
			message = fmt.Sprintf("record %d: %s", failure.Index, message)
		}
		failures = append(failures, CheckFailure{Test: failure.Test, Message: message})
	}
	return failures
}
