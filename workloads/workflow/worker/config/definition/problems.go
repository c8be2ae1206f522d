// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"strings"
)

// maxProblems bounds the problems of one error.
const maxProblems = 50

// Problem is one problem of a definition, with its path, such as spec.steps[3].when.
type Problem struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Problems is the error of Compile: all problems, in the order of the definition.
type Problems struct{ List []Problem }

// Error returns all problems on one line.
func (p *Problems) Error() string {
	texts := make([]string, len(p.List))
	for i, problem := range p.List {
		texts[i] = problem.Path + ": " + problem.Message
	}
	return strings.Join(texts, "; ")
}

func (p *Problems) add(path, format string, args ...any) {
	if len(p.List) < maxProblems {
		p.List = append(p.List, Problem{path, fmt.Sprintf(format, args...)})
	}
}

// InputError is an error of a run's input, such as inputs.amount.
type InputError struct{ Path, Message string }

// Error returns "path: message".
func (e *InputError) Error() string { return e.Path + ": " + e.Message }
