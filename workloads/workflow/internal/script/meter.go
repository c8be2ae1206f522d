// SPDX-License-Identifier: Apache-2.0

package script

import (
	"fmt"
	"math"

	"go.starlark.net/starlark"
)

const (
	// maxDepth bounds the nesting of values, since walking them is recursive.
	maxDepth = 100
	// maxKey bounds the bytes of a tuple that is a key of a dict or set: it is walked at each lookup.
	maxKey = 16 << 10
	// maxBits bounds integers: their multiplication costs the square of their length.
	maxBits = 1 << 15
	// maxDigits bounds text that is parsed as a number.
	maxDigits = 10_000

	// slot and entry are the bytes of a value in a list or tuple, and in a dict or set.
	slot  = 16
	entry = 160
)

// meter counts the resources of one run. Both counts only grow, and depend only on the script and its data: a repeated run always
// ends in the same way.
type meter struct {
	thread        *starlark.Thread
	steps, memory uint64 // the limits
	used          uint64 // bytes
}

const meterKey = "meter"

func meterOf(thread *starlark.Thread) *meter { return thread.Local(meterKey).(*meter) }

func (m *meter) stepsError() error {
	return fmt.Errorf("more than %d steps: the script computes too much", m.steps)
}

// work charges n steps for an operation, beyond its own step, before it is done.
func (m *meter) work(n int) error {
	if n < 0 || uint64(n) > m.steps || m.thread.Steps > m.steps-uint64(n) {
		return m.stepsError()
	}
	m.thread.Steps += uint64(n)
	return nil
}

// alloc charges n parts of size bytes each before they are allocated.
func (m *meter) alloc(n, size int) error {
	if n < 0 || size < 0 {
		return m.memoryError()
	}
	if n == 0 || size == 0 {
		return nil
	}
	if uint64(n) > m.memory/uint64(size) || uint64(n)*uint64(size) > m.memory-m.used {
		return m.memoryError()
	}
	m.used += uint64(n) * uint64(size)
	return nil
}

func (m *meter) memoryError() error {
	return fmt.Errorf("more than %d MiB of memory allocated: process less data at once, and use join to build long texts", m.memory>>20)
}

// length returns the length of an iterable. It returns an error if the length is unknown.
func length(v starlark.Value) (int, error) {
	if n := starlark.Len(v); n >= 0 {
		return n, nil
	}
	if _, ok := v.(starlark.Iterable); ok {
		return 0, fmt.Errorf("%s has no known length here", v.Type())
	}
	return 0, nil // the operation itself fails
}

// weigh walks values like comparing, hashing and printing would, and charges the work. Shared parts count each time.
func (m *meter) weigh(values ...starlark.Value) error {
	_, err := m.walk(values, 0, math.MaxInt)
	return err
}

// key returns an error if a value is expensive to hash.
func (m *meter) key(v starlark.Value) error {
	tuple, ok := v.(starlark.Tuple)
	if !ok {
		return nil
	}
	_, err := m.walk(tuple, 0, maxKey)
	return err
}

// text charges the bytes of values printed the given number of times, before they are printed.
func (m *meter) text(times int, values ...starlark.Value) error {
	n, err := m.walk(values, 0, math.MaxInt)
	if err != nil {
		return err
	}
	if times > 0 && n > math.MaxInt/times {
		return m.memoryError()
	}
	return m.alloc(times, n)
}

var errDeep = fmt.Errorf("value is nested deeper than %d levels, or contains itself", maxDepth)

// walk returns an estimate of the bytes of the values as text.
func (m *meter) walk(values []starlark.Value, depth, limit int) (size int, err error) {
	for _, v := range values {
		n, err := m.walkOne(v, depth, limit)
		if err != nil {
			return 0, err
		}
		if size += n + 2; size < 0 || size > limit {
			return 0, fmt.Errorf("value is larger than %d bytes, which is too much for a key", limit)
		}
	}
	return size, nil
}

func (m *meter) walkOne(v starlark.Value, depth, limit int) (int, error) {
	if depth > maxDepth {
		return 0, errDeep
	}
	var err error
	size := 2
	each := func(parts ...starlark.Value) bool {
		var n int
		n, err = m.walk(parts, depth+1, limit)
		size += n
		return err == nil && size >= 0
	}
	switch v := v.(type) {
	case starlark.String:
		// Each byte of the text may be escaped: \x00.
		return 4*len(v) + 2, m.work(1 + len(v)/64)
	case starlark.Bytes:
		return 4*len(v) + 3, m.work(1 + len(v)/64)
	case starlark.Int:
		bits := bitsOf(v)
		return bits + 2, m.work(1 + bits/64)
	case starlark.Tuple:
		each(v...)
	case *starlark.List:
		for i := 0; i < v.Len() && each(v.Index(i)); i++ {
		}
	case *starlark.Dict:
		for key, value := range v.Entries() {
			if !each(key, value) {
				break
			}
		}
	case *starlark.Set:
		for key := range starlark.Elements(v) {
			if !each(key) {
				break
			}
		}
	case *starlark.Function:
		size = len(v.Name()) + 32
	default:
		size, err = other(v)
	}
	if err != nil {
		return 0, err
	}
	if size < 0 {
		return 0, m.memoryError()
	}
	return size, m.work(1)
}

// other returns the size of a value of any other type.
func other(v starlark.Value) (int, error) {
	const short = 256 // numbers, ranges, built-in functions
	items, ok := v.(starlark.Iterable)
	if !ok || v.Type() == "range" {
		return short, nil
	}
	n, err := length(items) // elements of a text, which is printed as well
	return 4*n + short, err
}

// bitsOf returns the length of an integer in bits, at least 64, so that small ones are not converted.
func bitsOf(n starlark.Int) int {
	if _, small := n.Int64(); small {
		return 64
	}
	return n.BigInt().BitLen()
}
