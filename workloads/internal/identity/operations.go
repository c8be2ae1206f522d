// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/db"
)

// Register adds the operations to rest, and OAuth's endpoints, which are not operations of huma, to mux.
func (s *Service) Register(rest huma.API, mux *http.ServeMux) {
	tags := []string{"identity"}
	public := []map[string][]string{{}}
	huma.Register(rest, huma.Operation{OperationID: "register", Method: http.MethodPost, Path: prefix + "/register", Tags: tags,
		Summary: "Make a user", Description: "Open to everyone if the Platform allows it, otherwise to administrators.",
		DefaultStatus: http.StatusCreated, Security: public}, s.register)
	huma.Register(rest, huma.Operation{OperationID: "get-me", Method: http.MethodGet, Path: prefix + "/me", Tags: tags,
		Summary: "Read one's own user"}, s.me)
	huma.Register(rest, huma.Operation{OperationID: "put-me", Method: http.MethodPut, Path: prefix + "/me", Tags: tags,
		Summary: "Change one's own name and password", Description: "A new password ends all other sessions.",
		Errors: []int{http.StatusConflict}}, s.putMe)
	huma.Register(rest, huma.Operation{OperationID: "list-users", Method: http.MethodGet, Path: prefix + "/users", Tags: tags,
		Summary: "List the users, for administrators"}, s.listUsers)
	huma.Register(rest, huma.Operation{OperationID: "put-grants", Method: http.MethodPut, Path: prefix + "/users/{id}/grants", Tags: tags,
		Summary:     "Replace the grants of a user that the caller administers",
		Description: "Grants on products and namespaces that the caller does not administer stay as they are.",
		Errors:      []int{http.StatusConflict}}, s.putGrants)

	mux.HandleFunc("POST "+prefix+"/token", s.token)
	mux.HandleFunc("POST "+prefix+"/revoke", s.revoke)
	mux.HandleFunc("GET "+prefix+"/authorize", s.authorize)
	mux.HandleFunc("POST "+prefix+"/authorize", s.authorize)
	mux.HandleFunc("GET "+prefix+"/jwks", s.jwks)
	s.document(rest)
}

type userAnswer struct{ Body User }

type registration struct {
	Body struct {
		Email    string `json:"email" doc:"the login; its case does not matter"`
		Password string `json:"password" doc:"at most 72 bytes; the Platform sets further rules"`
		Name     string `json:"name,omitempty" doc:"for people"`
	}
}

func (s *Service) register(ctx context.Context, in *registration) (*userAnswer, error) {
	if !s.settings.OpenRegistration {
		if err := auth.Require(ctx, "*", "*", auth.RoleAdmin); err != nil {
			return nil, err
		}
	}
	email, ok := normalEmail(in.Body.Email)
	if !ok {
		return nil, api.Invalid("body.email", "is not an email address")
	}
	if err := checkName(in.Body.Name); err != nil {
		return nil, err
	}
	if err := checkPassword(s.settings.Password, "body.password", in.Body.Password); err != nil {
		return nil, err
	}
	// Also for an address that is taken, so that the time does not reveal it.
	hash, err := s.hasher.hash(ctx, in.Body.Password)
	if err != nil {
		return nil, failed("hash the password", err)
	}
	event := audit.Event{Action: "user.register", Object: "user/" + email, Outcome: audit.Allowed}
	var user User
	err = db.InTx(ctx, s.users.pool, func(tx pgx.Tx) error {
		var err error
		if user, err = insertUser(ctx, tx, email, in.Body.Name, hash, nil); err != nil {
			return err
		}
		return s.record(ctx, event)
	})
	if db.IsUnique(err, "users_email_key") {
		event.Outcome = audit.Failed
		if err := s.record(ctx, event); err != nil {
			return nil, err
		}
		return nil, api.Conflict("this email address is taken")
	}
	if err != nil {
		return nil, fmt.Errorf("make a user: %w", err)
	}
	return &userAnswer{user}, nil
}

// failed returns the response to an error about a password.
func failed(what string, err error) error {
	if locked, ok := errors.AsType[*lockedError](err); ok {
		return locked.answer()
	}
	if errors.Is(err, errBusy) {
		return busy()
	}
	return fmt.Errorf("%s: %w", what, err)
}

// caller returns the calling user; ServiceAccounts have no user.
func (s *Service) caller(ctx context.Context) (User, error) {
	p := auth.From(ctx)
	if p == nil {
		return User{}, auth.Unauthenticated("a login is needed")
	}
	if p.Kind != auth.KindUser {
		return User{}, api.Forbidden("this is for users; a ServiceAccount has no profile")
	}
	u, err := s.users.get(ctx, p.ID)
	if errors.Is(err, errNoUser) {
		return User{}, auth.Unauthenticated("the user no longer exists")
	}
	if err != nil {
		return User{}, fmt.Errorf("read the user: %w", err)
	}
	return u, nil
}

func (s *Service) me(ctx context.Context, _ *struct{}) (*userAnswer, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	return &userAnswer{u}, nil
}

type profile struct {
	Body struct {
		Name        *string `json:"name,omitempty" doc:"for people"`
		Password    string  `json:"password,omitempty" doc:"a new one; oldPassword must be given as well"`
		OldPassword string  `json:"oldPassword,omitempty"`
	}
}

func (s *Service) putMe(ctx context.Context, in *profile) (*userAnswer, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	name := u.Name
	if in.Body.Name != nil {
		name = *in.Body.Name
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if in.Body.Password != "" {
		if u, err = s.changePassword(ctx, u, name, in); err != nil {
			return nil, err
		}
		return &userAnswer{u}, nil
	}
	if in.Body.OldPassword != "" {
		return nil, api.Invalid("body.password", "must be given with oldPassword")
	}
	if err := s.record(ctx, audit.Event{Action: "user.update", Object: "user/" + u.Email, Outcome: audit.Allowed}); err != nil {
		return nil, err
	}
	if u, err = s.users.rename(ctx, u.ID.String(), name); err != nil {
		return nil, fmt.Errorf("rename the user: %w", err)
	}
	return &userAnswer{u}, nil
}

// changePassword checks the old one, like a login, and ends every other session.
func (s *Service) changePassword(ctx context.Context, u User, name string, in *profile) (User, error) {
	if err := checkPassword(s.settings.Password, "body.password", in.Body.Password); err != nil {
		return User{}, err
	}
	event := audit.Event{Action: "user.password", Object: "user/" + u.Email, Outcome: audit.Denied}
	if _, err := s.login(ctx, u.Email, in.Body.OldPassword); err != nil {
		if !errors.Is(err, errNoUser) {
			return User{}, failed("check the password", err)
		}
		if err := s.record(ctx, event); err != nil {
			return User{}, err
		}
		return User{}, api.Forbidden("the old password is wrong")
	}
	_, old, err := s.users.password(ctx, u.Email)
	if err != nil {
		return User{}, fmt.Errorf("read the user: %w", err)
	}
	hash, err := s.hasher.hash(ctx, in.Body.Password)
	if err != nil {
		return User{}, failed("hash the password", err)
	}
	event.Outcome = audit.Allowed
	if err := s.record(ctx, event); err != nil {
		return User{}, err
	}
	changed, ended, err := s.users.change(ctx, u.ID.String(), old, hash, name, auth.From(ctx).Session)
	if errors.Is(err, errNoUser) {
		return User{}, api.Conflict("the password was changed by another request")
	}
	if err != nil {
		return User{}, fmt.Errorf("change the password: %w", err)
	}
	s.changes.revoke(ended...)
	return changed, nil
}

type userList struct{ Body api.List[User] }

func (s *Service) listUsers(ctx context.Context, in *struct{ api.Page }) (*userList, error) {
	p := auth.From(ctx)
	if p == nil {
		return nil, auth.Unauthenticated("a login is needed")
	}
	if !slices.ContainsFunc(p.Grants, func(g auth.Grant) bool { return g.Role == auth.RoleAdmin }) {
		return nil, api.Forbidden("this needs the role admin")
	}
	scope := api.Scope("users")
	var after string
	if err := s.cursors.Decode(scope, in.Cursor, &after); err != nil {
		return nil, err
	}
	list, err := s.users.list(ctx, after, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	out := &userList{Body: api.List[User]{Items: list}}
	if len(list) > in.Limit {
		out.Body.Items = list[:in.Limit]
		out.Body.Next = s.cursors.Encode(scope, list[in.Limit-1].Email)
	}
	// An administrator of one namespace must not see grants on others.
	for i := range out.Body.Items {
		u := &out.Body.Items[i]
		u.Grants = slices.DeleteFunc(u.Grants, func(g auth.Grant) bool { return !administers(p, g) })
	}
	if out.Body.Items == nil {
		out.Body.Items = []User{}
	}
	return out, nil
}

func administers(p *auth.Principal, g auth.Grant) bool {
	return p.RoleOn(g.Product, g.Namespace) == auth.RoleAdmin
}

type grantsInput struct {
	ID   string `path:"id" format:"uuid" maxLength:"36"`
	Body struct {
		Grants []auth.Grant `json:"grants" maxItems:"100" nullable:"false"`
	}
}

func (s *Service) putGrants(ctx context.Context, in *grantsInput) (*userAnswer, error) {
	p := auth.From(ctx)
	if p == nil {
		return nil, auth.Unauthenticated("a login is needed")
	}
	if !slices.ContainsFunc(p.Grants, func(g auth.Grant) bool { return g.Role == auth.RoleAdmin }) {
		return nil, api.Forbidden("this needs the role admin")
	}
	for i, g := range in.Body.Grants {
		if err := checkGrant(fmt.Sprintf("body.grants[%d]", i), g); err != nil {
			return nil, err
		}
		if !administers(p, g) {
			return nil, api.Forbidden("grants are only for products and namespaces that the caller administers")
		}
	}
	event := audit.Event{Action: "user.grant", Object: "user/" + in.ID, Outcome: audit.Allowed, Details: map[string]string{"grants": describeGrants(in.Body.Grants)}}
	u, at, err := s.users.setGrants(ctx, in.ID, func(old []auth.Grant) ([]auth.Grant, error) {
		kept := slices.DeleteFunc(slices.Clone(old), func(g auth.Grant) bool { return administers(p, g) })
		if len(kept)+len(in.Body.Grants) > maxGrants {
			return nil, api.Invalid("body.grants", fmt.Sprintf("a user has at most %d", maxGrants))
		}
		return unique(append(kept, in.Body.Grants...)), s.record(ctx, event)
	})
	switch {
	case errors.Is(err, errNoUser):
		return nil, api.NotFound("user")
	case errors.Is(err, errLastAdministrator):
		return nil, api.Conflict("this is the last administrator: create another one first")
	case err != nil:
		return nil, fmt.Errorf("set the grants: %w", err)
	}
	s.changes.grant(u.ID.String(), at, u.Grants)
	u.Grants = slices.DeleteFunc(slices.Clone(u.Grants), func(g auth.Grant) bool { return !administers(p, g) })
	return &userAnswer{u}, nil
}

func checkGrant(field string, g auth.Grant) error {
	for part, text := range map[string]string{"product": g.Product, "namespace": g.Namespace} {
		if text != "*" && !isLabel(text) {
			return api.Invalid(field+"."+part, `is neither "*" nor a name of lower-case letters, digits and "-"`)
		}
	}
	if !knownRole(g.Role) {
		return api.Invalid(field+".role", "is not one of viewer, editor and admin")
	}
	return nil
}

// isLabel reports whether text is a DNS label, as names of products and namespaces are.
func isLabel(text string) bool {
	return len(text) > 0 && len(text) <= 63 && text[0] != '-' && text[len(text)-1] != '-' &&
		!strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

func unique(grants []auth.Grant) []auth.Grant {
	out := []auth.Grant{}
	for _, g := range grants {
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

func describeGrants(grants []auth.Grant) string {
	parts := make([]string, 0, len(grants))
	for _, g := range grants {
		parts = append(parts, g.Product+"/"+g.Namespace+"="+string(g.Role))
	}
	return strings.Join(parts, ",")
}
