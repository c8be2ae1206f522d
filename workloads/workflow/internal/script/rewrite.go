// SPDX-License-Identifier: Apache-2.0

package script

import (
	"go.starlark.net/syntax"
)

// The interpreter bounds the number of steps, but not the cost of a step: [0] * 10**9 is one step. So all operations whose cost is
// not constant are rewritten to calls of functions that charge before they compute: operators, attributes, slices and keys.
// Otherwise scripts can only build values part by part, which costs a step each.

func rewriteAll(list []syntax.Stmt) error {
	for i := range list {
		if err := rewriteStmt(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func rewriteStmt(at *syntax.Stmt) error {
	switch s := (*at).(type) {
	case *syntax.LoadStmt:
		return syntax.Error{Pos: s.Load, Msg: "load is not available in a step"}
	case *syntax.AssignStmt:
		*at = assign(s)
	case *syntax.DefStmt:
		params(s.Params)
		return rewriteAll(s.Body)
	case *syntax.ExprStmt:
		s.X = rewrite(s.X)
	case *syntax.ForStmt:
		s.Vars, s.X = target(s.Vars), rewrite(s.X)
		return rewriteAll(s.Body)
	case *syntax.WhileStmt:
		s.Cond = rewrite(s.Cond)
		return rewriteAll(s.Body)
	case *syntax.IfStmt:
		s.Cond = rewrite(s.Cond)
		if err := rewriteAll(s.True); err != nil {
			return err
		}
		return rewriteAll(s.False)
	case *syntax.ReturnStmt:
		if s.Result != nil {
			s.Result = rewrite(s.Result)
		}
	}
	return nil
}

func assign(s *syntax.AssignStmt) syntax.Stmt {
	op, combined := augmented[s.Op]
	if !combined {
		s.LHS, s.RHS = target(s.LHS), rewrite(s.RHS)
		return s
	}
	switch left := unparen(s.LHS).(type) {
	case *syntax.Ident:
		read := &syntax.Ident{NamePos: left.NamePos, Name: left.Name}
		return &syntax.AssignStmt{OpPos: s.OpPos, Op: syntax.EQ, LHS: left, RHS: call(inPlace(op), s.OpPos, read, rewrite(s.RHS))}
	case *syntax.IndexExpr:
		return &syntax.ExprStmt{X: call(elementwise(op), s.OpPos, rewrite(left.X), rewrite(left.Y), rewrite(s.RHS))}
	}
	return s // the resolver rejects it, or no value has such an attribute
}

func unparen(e syntax.Expr) syntax.Expr {
	for {
		paren, ok := e.(*syntax.ParenExpr)
		if !ok {
			return e
		}
		e = paren.X
	}
}

// target rewrites the left side of an assignment.
func target(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.ParenExpr:
		e.X = target(e.X)
	case *syntax.TupleExpr:
		for i := range e.List {
			e.List[i] = target(e.List[i])
		}
	case *syntax.ListExpr:
		for i := range e.List {
			e.List[i] = target(e.List[i])
		}
	case *syntax.IndexExpr:
		e.X, e.Y = rewrite(e.X), key(e.Y)
	case *syntax.DotExpr:
		e.X = rewrite(e.X)
	}
	return e
}

func params(list []syntax.Expr) {
	for _, p := range list {
		if p, ok := p.(*syntax.BinaryExpr); ok {
			p.Y = rewrite(p.Y)
		}
	}
}

func call(name string, pos syntax.Position, args ...syntax.Expr) *syntax.CallExpr {
	return &syntax.CallExpr{Fn: &syntax.Ident{NamePos: pos, Name: name}, Lparen: pos, Args: args, Rparen: pos}
}

// key rewrites the key of a dict or set.
func key(e syntax.Expr) syntax.Expr {
	if _, ok := e.(*syntax.Literal); ok {
		return e
	}
	return call(nameKey, syntax.Start(e), rewrite(e))
}

func rewriteList(list []syntax.Expr) {
	for i := range list {
		list[i] = rewrite(list[i])
	}
}

func rewrite(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.ParenExpr:
		e.X = rewrite(e.X)
	case *syntax.UnaryExpr:
		if e.X != nil {
			e.X = rewrite(e.X)
		}
	case *syntax.BinaryExpr:
		e.X, e.Y = rewrite(e.X), rewrite(e.Y)
		if e.Op != syntax.AND && e.Op != syntax.OR {
			return call(e.Op.String(), e.OpPos, e.X, e.Y)
		}
	case *syntax.CondExpr:
		e.Cond, e.True, e.False = rewrite(e.Cond), rewrite(e.True), rewrite(e.False)
	case *syntax.ListExpr:
		rewriteList(e.List)
	case *syntax.TupleExpr:
		rewriteList(e.List)
	case *syntax.DictExpr:
		rewriteList(e.List)
	case *syntax.DictEntry:
		e.Key, e.Value = key(e.Key), rewrite(e.Value)
	case *syntax.LambdaExpr:
		params(e.Params)
		e.Body = rewrite(e.Body)
	case *syntax.IndexExpr:
		e.X, e.Y = rewrite(e.X), key(e.Y)
	case *syntax.SliceExpr:
		rewriteSlice(e)
	case *syntax.DotExpr:
		name := &syntax.Literal{Token: syntax.STRING, TokenPos: e.NamePos, Value: e.Name.Name}
		return call(nameDot, e.Dot, rewrite(e.X), name)
	case *syntax.CallExpr:
		rewriteCall(e)
	case *syntax.Comprehension:
		rewriteComprehension(e)
	}
	return e
}

func rewriteSlice(e *syntax.SliceExpr) {
	e.X = call(nameSlice, e.Lbrack, rewrite(e.X))
	for _, bound := range []*syntax.Expr{&e.Lo, &e.Hi, &e.Step} {
		if *bound != nil {
			*bound = rewrite(*bound)
		}
	}
}

func rewriteCall(e *syntax.CallExpr) {
	e.Fn = rewrite(e.Fn)
	for i, arg := range e.Args {
		switch a := arg.(type) {
		case *syntax.BinaryExpr:
			if a.Op == syntax.EQ { // name=value
				a.Y = rewrite(a.Y)
				continue
			}
		case *syntax.UnaryExpr:
			if a.Op == syntax.STAR {
				a.X = call(nameStar, a.OpPos, rewrite(a.X))
				continue
			}
			if a.Op == syntax.STARSTAR {
				a.X = call(nameStars, a.OpPos, rewrite(a.X))
				continue
			}
		}
		e.Args[i] = rewrite(arg)
	}
}

func rewriteComprehension(e *syntax.Comprehension) {
	if _, pair := e.Body.(*syntax.DictEntry); e.Curly && !pair {
		e.Body = key(e.Body) // {x for …}
	} else {
		e.Body = rewrite(e.Body)
	}
	for _, clause := range e.Clauses {
		switch c := clause.(type) {
		case *syntax.ForClause:
			c.Vars, c.X = target(c.Vars), rewrite(c.X)
		case *syntax.IfClause:
			c.Cond = rewrite(c.Cond)
		}
	}
}
