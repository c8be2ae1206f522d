// SPDX-License-Identifier: Apache-2.0

package script

import (
	"slices"

	"go.starlark.net/syntax"
)

// look finds the names that a script mentions. Of one that it asks for nothing but members by literal names, as in
// steps["fetch"], these are told as well: what the other hundred steps gave need not be made values of.
func look(file *syntax.File) (seen map[string]bool, members map[string][]string) {
	seen, members = map[string]bool{}, map[string][]string{}
	mentions, accounted := map[string]int{}, map[string]int{}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Ident:
			seen[n.Name] = true
			mentions[n.Name]++
		case *syntax.IndexExpr:
			name, ok := n.X.(*syntax.Ident)
			literal, isLiteral := n.Y.(*syntax.Literal)
			if ok && isLiteral && literal.Token == syntax.STRING {
				accounted[name.Name]++
				members[name.Name] = append(members[name.Name], literal.Value.(string))
			}
		case *syntax.DefStmt:
			if n.Name.Name != nameMain {
				break
			}
			for _, p := range n.Params {
				if name, ok := p.(*syntax.Ident); ok {
					accounted[name.Name]++
				}
			}
		}
		return true
	})
	for name := range members {
		if mentions[name] != accounted[name] {
			delete(members, name)
		}
	}
	return seen, members
}

// wanted returns what of an object the script asks for.
func (p *Program) wanted(name string, value any) any {
	names, some := p.members[name]
	object, ok := value.(map[string]any)
	if !some || !ok {
		return value
	}
	out := make(map[string]any, len(names))
	for _, name := range names {
		if item, ok := object[name]; ok {
			out[name] = item
		}
	}
	return out
}

// Reads reports whether a script may look at a member of an object that it is given.
func (p *Program) Reads(name, member string) bool {
	names, some := p.members[name]
	return slices.Contains(p.used, name) && (!some || slices.Contains(names, member))
}
