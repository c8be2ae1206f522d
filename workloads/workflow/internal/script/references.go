// SPDX-License-Identifier: Apache-2.0

package script

import (
	"slices"

	"go.starlark.net/syntax"
)

// references finds the names that a script mentions. If it uses a name only to get members by literal names, as in steps["fetch"],
// it also returns these members: the other members need not be converted.
func references(file *syntax.File) (seen map[string]bool, members map[string][]string) {
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

// wanted returns an object with only the members that the script uses.
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

// Reads reports whether a script may read the given member of one of its objects.
func (p *Program) Reads(name, member string) bool {
	names, some := p.members[name]
	return slices.Contains(p.used, name) && (!some || slices.Contains(names, member))
}
