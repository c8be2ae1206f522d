// SPDX-License-Identifier: Apache-2.0

package store

// Phase of a run or a step.
type Phase string

// Phases. Only runs can be Queued or TimedOut; only steps can be Pending, Ready or Skipped.
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

// codes maps the bytes of runs.state to phases. Their order must never change.
var codes = []Phase{Pending, Ready, Running, Waiting, Succeeded, Failed, Skipped, Cancelled}

func code(p Phase) byte {
	for i, c := range codes {
		if c == p {
			return byte(i)
		}
	}
	return 0
}

// Ended reports whether the phase is final.
func (p Phase) Ended() bool {
	switch p {
	case Succeeded, Failed, Skipped, Cancelled, TimedOut:
		return true
	}
	return false
}

// active reports whether a step in this phase will end by itself.
func (p Phase) active() bool { return p == Ready || p == Running || p == Waiting }

// Role determines when a step runs.
type Role int

// Roles: Main steps, and the handlers that run after them.
const (
	Main Role = iota
	OnSuccess
	OnFailure
	Always
)

// due reports whether a handler runs after this outcome. A canceled run did not fail.
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

// Node is what decides the order of one step.
type Node struct {
	Name              string
	Role              Role
	Needs, Dependents []int
	// Continue means that a failure of the step does not fail the run.
	Continue bool
}

// Graph is what decides the order of a definition's steps. Steps are identified by their index.
type Graph struct{ Nodes []Node }

// stage of a run.
type stage string

const (
	stageMain     stage = "Main"
	stageFailing  stage = "Failing" // a step failed: running steps finish, no others start
	stageHandlers stage = "Handlers"
)

// machine is a run's state machine. It decides what comes next, without clock or database.
type machine struct {
	graph   *Graph
	stage   stage
	outcome Phase
	failure string
	state   []Phase
	loops   map[int]*loop

	ready []int // ready steps that have no row yet
	drop  drop  // which active rows to cancel
	// dropItems are the forEach steps whose idle items are to be canceled.
	dropItems []int
	over      bool // the run has ended, with outcome
	// handlersStarted means that this transition started the handlers.
	handlersStarted bool
}

// drop selects active rows to cancel.
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
	Error string `json:"error,omitempty"` // of the first failed item
}

// moved updates the counts for an item that changed its phase.
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

// truncate limits a forEach to the items that are running.
func (m *machine) truncate(step int, l *loop) {
	l.Ended, l.Waiting, l.Total = l.Next-l.Running, 0, l.Next
	m.dropItems = append(m.dropItems, step)
}

// begin makes the steps without needs ready.
func (m *machine) begin() {
	m.makeReady(func(n Node) bool { return n.Role == Main })
	m.settle()
}

// makeReady makes the selected pending steps ready if their needs have passed.
func (m *machine) makeReady(selected func(Node) bool) {
	for i, n := range m.graph.Nodes {
		if m.state[i] == Pending && selected(n) && m.needsPassed(n) {
			m.state[i] = Ready
			m.ready = append(m.ready, i)
		}
	}
}

func (m *machine) needsPassed(n Node) bool {
	for _, need := range n.Needs {
		if !m.passed(need) {
			return false
		}
	}
	return true
}

// passed reports whether the step's outcome lets its dependents start.
func (m *machine) passed(i int) bool {
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
			if m.state[d] == Pending && m.mayStart(d) && m.needsPassed(m.graph.Nodes[d]) {
				m.state[d] = Ready
				m.ready = append(m.ready, d)
			}
		}
	}
	m.settle()
}

// mayStart reports whether the step belongs to the current stage.
func (m *machine) mayStart(i int) bool {
	role := m.graph.Nodes[i].Role
	if m.stage == stageHandlers {
		return role.due(m.mainOutcome())
	}
	return role == Main
}

// fail lets running steps finish and starts no others.
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
			m.truncate(i, l) // the running items end the step
		case l != nil && p == Running, p == Ready, p == Waiting, p == Running && which == dropActive:
			m.state[i] = Cancelled
		}
	}
}

// mainOutcome returns the outcome of the main steps, which decides which handlers run: a failing handler does not make others due.
func (m *machine) mainOutcome() Phase {
	if m.outcome == Failed && m.stage == stageHandlers && m.mainSucceeded() {
		return Succeeded
	}
	return m.outcome
}

func (m *machine) mainSucceeded() bool {
	for i, n := range m.graph.Nodes {
		if n.Role == Main && !m.passed(i) {
			return false
		}
	}
	return true
}

// settle moves on to the handlers, and then to the end, when nothing is active.
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
	m.stage, m.outcome, m.handlersStarted = stageHandlers, outcome, true
	m.endPending(func(n Node) bool { return n.Role == Main }, Cancelled)
	m.endPending(func(n Node) bool { return n.Role != Main && !n.Role.due(outcome) }, Skipped)
	m.makeReady(func(n Node) bool { return n.Role != Main })
}

// endPending sets the phase of selected pending steps, which will not start.
func (m *machine) endPending(selected func(Node) bool, phase Phase) {
	for i, n := range m.graph.Nodes {
		if m.state[i] == Pending && selected(n) {
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

// stop cancels all active steps. Handlers still run, unless the run is already in that stage.
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

// abort ends the run without handlers.
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

// phase returns the phase of the run.
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
