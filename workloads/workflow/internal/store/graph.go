// SPDX-License-Identifier: Apache-2.0

package store

// Phase of a run or a step.
type Phase string

// Phases. Queued and TimedOut are of runs alone; Pending, Ready and Skipped of steps alone.
const (
	Queued    Phase = "Queued"
	Pending   Phase = "Pending"
	Ready     Phase = "Ready"
	Running   Phase = "Running"
	Waiting   Phase = "Waiting"
	Succeeded Phase = "Succeeded"
	Failed    Phase = "Failed"
	Skipped   Phase = "Skipped"
	Cancelled Phase = "Cancelled"
	TimedOut  Phase = "TimedOut"
)

// codes are the phases of steps as bytes of runs.state. Their order must never change.
var codes = []Phase{Pending, Ready, Running, Waiting, Succeeded, Failed, Skipped, Cancelled}

func code(p Phase) byte {
	for i, c := range codes {
		if c == p {
			return byte(i)
		}
	}
	return 0
}

// Ended reports whether nothing follows the phase.
func (p Phase) Ended() bool {
	switch p {
	case Succeeded, Failed, Skipped, Cancelled, TimedOut:
		return true
	}
	return false
}

// active tells a step that is to come to its end by itself.
func (p Phase) active() bool { return p == Ready || p == Running || p == Waiting }

// Role determines when a step runs.
type Role int

// Roles: the steps proper, and what runs after them.
const (
	Main Role = iota
	OnSuccess
	OnFailure
	Always
)

// due reports whether a handler runs after a run that ends so. A run that somebody canceled did not fail.
func (r Role) due(outcome Phase) bool {
	switch r {
	case Always:
		return true
	case OnSuccess:
		return outcome == Succeeded
	case OnFailure:
		return outcome == Failed || outcome == TimedOut
	}
	return false
}

// Node is one step, as far as the order of steps is concerned.
type Node struct {
	Name              string
	Role              Role
	Needs, Dependents []int
	// Continue: that the step fails does not fail the run.
	Continue bool
}

// Graph is a definition as far as the order of steps is concerned. A step's index is its place.
type Graph struct{ Nodes []Node }

// stage of a run.
type stage string

const (
	stageMain     stage = "Main"
	stageFailing  stage = "Failing" // a step failed: what runs ends, nothing else begins
	stageHandlers stage = "Handlers"
)

// machine is a run's state. It decides what comes next, and touches neither clock nor database.
type machine struct {
	graph   *Graph
	stage   stage
	outcome Phase
	failure string
	state   []Phase
	loops   map[int]*loop

	ready []int // became ready and have no row yet
	drop  drop  // what of the active rows is to be canceled
	// dropItems are the forEach whose idle items are to be canceled.
	dropItems []int
	over      bool // the run has ended, with outcome
	// begunHandlers: the stage of handlers began just now.
	begunHandlers bool
}

// drop is which active rows are canceled.
type drop int

const (
	dropNothing drop = iota
	dropIdle         // Ready and Waiting
	dropActive       // Running as well
)

// loop counts the items of a forEach.
type loop struct {
	Total   int `json:"total"`
	Next    int `json:"next"` // the first that is not ready yet
	Ended   int `json:"ended"`
	Running int `json:"running"`
	Waiting int `json:"waiting"`
	Failed  int `json:"failed"`
	// Bytes of the items' outputs.
	Bytes int    `json:"bytes"`
	Error string `json:"error,omitempty"` // of the item that failed first
}

// moved counts an item that went from one phase to another.
func (l *loop) moved(from, to Phase) {
	switch from {
	case Running:
		l.Running--
	case Waiting:
		l.Waiting--
	}
	switch {
	case to == Running:
		l.Running++
	case to == Waiting:
		l.Waiting++
	case to.Ended():
		l.Ended++
		if to == Failed {
			l.Failed++
		}
	}
}

// shorten leaves a forEach only the items that run.
func (m *machine) shorten(step int, l *loop) {
	l.Ended, l.Waiting, l.Total = l.Next-l.Running, 0, l.Next
	m.dropItems = append(m.dropItems, step)
}

// begin makes what needs nothing ready.
func (m *machine) begin() {
	m.beginReady(func(n Node) bool { return n.Role == Main })
	m.settle()
}

// beginReady makes those of the pending steps ready whose needs all ended well.
func (m *machine) beginReady(of func(Node) bool) {
	for i, n := range m.graph.Nodes {
		if m.state[i] == Pending && of(n) && m.met(n) {
			m.state[i] = Ready
			m.ready = append(m.ready, i)
		}
	}
}

func (m *machine) met(n Node) bool {
	for _, need := range n.Needs {
		if !m.fine(need) {
			return false
		}
	}
	return true
}

// fine: the step ended in a way that lets others begin.
func (m *machine) fine(i int) bool {
	switch m.state[i] {
	case Succeeded, Skipped:
		return true
	case Failed:
		return m.graph.Nodes[i].Continue
	}
	return false
}

// end records that a step finished.
func (m *machine) end(i int, phase Phase, failure string) {
	m.state[i] = phase
	node := m.graph.Nodes[i]
	switch {
	case phase == Failed && !node.Continue && node.Role == Main:
		m.fail("step " + node.Name + ": " + failure)
	case phase == Failed && !node.Continue && m.outcome == Succeeded:
		m.outcome, m.failure = Failed, "step "+node.Name+": "+failure
	}
	if m.stage != stageFailing {
		for _, d := range node.Dependents {
			if m.state[d] == Pending && m.begins(d) && m.met(m.graph.Nodes[d]) {
				m.state[d] = Ready
				m.ready = append(m.ready, d)
			}
		}
	}
	m.settle()
}

// begins reports whether the step belongs to what the run is at.
func (m *machine) begins(i int) bool {
	role := m.graph.Nodes[i].Role
	if m.stage == stageHandlers {
		return role.due(m.decided())
	}
	return role == Main
}

// fail lets what runs end, and nothing else begin.
func (m *machine) fail(failure string) {
	if m.stage != stageMain {
		return
	}
	m.stage, m.failure = stageFailing, failure
	m.cancel(dropIdle)
}

// cancel ends active steps without an outcome.
func (m *machine) cancel(which drop) {
	m.drop = max(m.drop, which)
	m.ready = nil
	for i, p := range m.state {
		l := m.loops[i]
		switch {
		case l != nil && p == Running && which == dropIdle && l.Running > 0:
			m.shorten(i, l) // those that run end it
		case l != nil && p == Running, p == Ready, p == Waiting, p == Running && which == dropActive:
			m.state[i] = Cancelled
		}
	}
}

// decided returns the outcome of the steps proper, which handlers are told of: one that fails does not make others due.
func (m *machine) decided() Phase {
	if m.outcome == Failed && m.stage == stageHandlers && m.mainSucceeded() {
		return Succeeded
	}
	return m.outcome
}

func (m *machine) mainSucceeded() bool {
	for i, n := range m.graph.Nodes {
		if n.Role == Main && !m.fine(i) {
			return false
		}
	}
	return true
}

// settle goes on to the handlers, and to the end, when nothing is active any more.
func (m *machine) settle() {
	for !m.over && !m.anyActive() {
		if m.stage == stageHandlers {
			m.finish()
			return
		}
		outcome := Succeeded
		if m.stage == stageFailing {
			outcome = Failed
		}
		m.handlers(outcome)
	}
}

func (m *machine) handlers(outcome Phase) {
	m.stage, m.outcome, m.begunHandlers = stageHandlers, outcome, true
	m.rest(func(n Node) bool { return n.Role == Main }, Cancelled)
	m.rest(func(n Node) bool { return n.Role != Main && !n.Role.due(outcome) }, Skipped)
	m.beginReady(func(n Node) bool { return n.Role != Main })
}

// rest ends the steps that will not begin.
func (m *machine) rest(of func(Node) bool, phase Phase) {
	for i, n := range m.graph.Nodes {
		if m.state[i] == Pending && of(n) {
			m.state[i] = phase
		}
	}
}

func (m *machine) finish() {
	for i, p := range m.state {
		if p == Pending {
			m.state[i] = Cancelled
		}
	}
	m.over = true
}

// stop ends all that is active now. Handlers still run, unless it is at them already.
func (m *machine) stop(outcome Phase, reason string) {
	m.cancel(dropActive)
	if m.stage == stageHandlers {
		if m.outcome == Succeeded {
			m.outcome, m.failure = outcome, reason
		}
		m.finish()
		return
	}
	m.failure = reason
	m.handlers(outcome)
	m.settle()
}

// abort ends the run, without handlers.
func (m *machine) abort(reason string) {
	m.cancel(dropActive)
	m.outcome, m.failure = Failed, reason
	m.finish()
}

func (m *machine) anyActive() bool {
	for _, p := range m.state {
		if p.active() {
			return true
		}
	}
	return false
}

// phase returns the run's.
func (m *machine) phase() Phase {
	if m.over {
		return m.outcome
	}
	for i, p := range m.state {
		l := m.loops[i]
		if p == Ready || p == Running && (l == nil || l.Waiting < l.Next-l.Ended) {
			return Running
		}
	}
	return Waiting
}
