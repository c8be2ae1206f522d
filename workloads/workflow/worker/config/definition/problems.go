// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"strings"
)

// maxProblems bounds what is told at a time.
const maxProblems = 50

// Problem is one thing that is wrong with a definition, and where: spec.steps[3].when.
type Problem struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Problems is the error of Compile: all that is wrong, in the order of the definition.
type Problems struct{ List []Problem }

// Error tells all of them, on one line.
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

// InputError is an error of an input of a run: inputs.amount.
type InputError struct{ Path, Message string }

// Error returns "path: message".
func (e *InputError) Error() string { return e.Path + ": " + e.Message }
