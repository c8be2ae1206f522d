// SPDX-License-Identifier: Apache-2.0

// Package identity manages the users of a Platform: registration, login, tokens and grants, in one schema that all its
// products share.
//
//	id, err := identity.New(ctx, pool, settings.Auth, audit, identity.Options{Product: "echo", Namespace: namespace, …})
//	id.Register(rest, mux)
//	s.Mount(auth.Middleware(id, identity.Anonymous...)(server.Routes(mux)))
package identity

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ory/fosite"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/server"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	defaultAccessTTL  = 24 * time.Hour
	defaultRefreshTTL = 30 * 24 * time.Hour
)

// Options of a Service, besides its settings.
type Options struct {
	// Product and Namespace are the service's: ServiceAccounts get their roles there, and audit events name them.
	Product, Namespace string
	// Reviewer checks ServiceAccounts' tokens; nil: they are refused.
	Reviewer TokenReviewer
	Log      *slog.Logger
	// Registry gets the metrics; nil: none.
	Registry prometheus.Registerer
	// IssuerClient connects to the issuers of the settings; nil: one of its own.
	IssuerClient *http.Client
	// HashCost is bcrypt's, 12 if zero. Tests lower it.
	HashCost int
}

// Service manages the users.
type Service struct {
	options  Options
	settings config.Auth
	ring     *keyring
	verified *verified
	users    users
	lockout  lockout
	hasher   *hasher
	changes  *changes
	accounts *accounts
	issuers  issuers
	provider fosite.OAuth2Provider
	store    *oauthStore
	audit    audit.Recorder
	log      *slog.Logger
	cursors  *api.Cursors
	now      func() time.Time

	stop context.CancelFunc
	work sync.WaitGroup
}

var _ auth.Authenticator = (*Service)(nil)

// New migrates the schema, creates the first administrator if there is no user, and keeps revocations up to date until
// ctx ends or Close is called. The error names the invalid setting, or wraps the database's.
func New(ctx context.Context, pool *pgxpool.Pool, settings config.Auth, recorder audit.Recorder, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		options: o, settings: settings, users: users{pool}, lockout: lockout{pool}, verified: newVerified(),
		audit: recorder, log: o.Log, now: time.Now,
	}
	access := settings.AccessTTL.Or(defaultAccessTTL)
	var err error
	if s.ring, err = newKeyring(settings.Issuer, settings.Keys); err != nil {
		return nil, err
	}
	clients, err := newClients(settings.Clients)
	if err != nil {
		return nil, err
	}
	if s.accounts, err = newAccounts(o.Reviewer, settings.Issuer, o.Namespace, settings.ServiceAccounts, time.Now); err != nil {
		return nil, err
	}
	if s.issuers, err = newIssuers(settings.Issuers, o.Namespace, o.IssuerClient); err != nil {
		return nil, err
	}
	s.cursors = api.NewCursors([]byte(settings.Keys[0].Secret))
	if err := db.Migrate(ctx, pool, migrations, o.Log); err != nil {
		return nil, err
	}
	if s.hasher, err = newHasher(o.HashCost, 0, 0); err != nil {
		return nil, err
	}
	s.changes = newChanges(pool, access, o.Log)
	s.store = &oauthStore{pool: pool, clients: clients, changes: s.changes, login: s.login}
	tokens := &strategy{ring: s.ring, users: s.users, now: time.Now}
	s.provider = newProvider(s.store, tokens, s.hasher, access, settings.RefreshTTL.Or(defaultRefreshTTL))
	if err := s.prepare(ctx); err != nil {
		s.hasher.close()
		return nil, err
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.work.Go(func() { s.changes.run(ctx) })
	s.work.Go(func() { s.purge(ctx) })
	return s, nil
}

// prepare reads and writes what must exist before the first request.
func (s *Service) prepare(ctx context.Context) error {
	if err := s.firstAdministrator(ctx); err != nil {
		return fmt.Errorf("create the first administrator: %w", err)
	}
	if err := s.changes.refresh(ctx); err != nil {
		return err
	}
	if s.options.Registry == nil {
		return nil
	}
	return s.options.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "itechsmart_identity_password_queue", Help: "Passwords that wait for a worker.",
	}, func() float64 { return float64(len(s.hasher.jobs)) }))
}

// Close stops what New started, and waits for it.
func (s *Service) Close() {
	s.stop()
	s.work.Wait()
	s.hasher.close()
}

func (s *Service) firstAdministrator(ctx context.Context) error {
	first := s.settings.Administrator
	if first == nil {
		return nil
	}
	empty, err := s.users.empty(ctx)
	if err != nil || !empty {
		return err
	}
	email, ok := normalEmail(first.Email)
	if !ok {
		return errors.New("auth.administrator.email: is not an email address")
	}
	if err := checkPassword(s.settings.Password, "auth.administrator.password", first.Password); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, first.Password)
	if err != nil {
		return err
	}
	created, err := s.users.bootstrap(ctx, email, hash)
	if err == nil && created {
		s.log.InfoContext(ctx, "created the first administrator")
		err = s.record(ctx, audit.Event{User: "system", Action: "user.bootstrap", Object: "user/" + email, Outcome: audit.Allowed})
	}
	return err
}

// Authenticate returns the principal of a bearer token: one of ours, without the database, another issuer's, or a
// ServiceAccount's. auth.ErrInvalidToken, auth.ErrUnavailable.
func (s *Service) Authenticate(ctx context.Context, bearer string) (*auth.Principal, error) {
	token, err := s.verify(bearer)
	if err != nil {
		if other := s.issuers.find(bearer); other != nil {
			return other.authenticate(ctx, bearer)
		}
		if s.options.Reviewer == nil || len(s.settings.ServiceAccounts) == 0 {
			return nil, err
		}
		return s.accounts.authenticate(ctx, bearer)
	}
	grants, ok := s.changes.apply(token)
	if !ok {
		return nil, fmt.Errorf("%w: it was revoked", auth.ErrInvalidToken)
	}
	return &auth.Principal{Kind: auth.KindUser, ID: token.Subject, Name: token.Name, Grants: grants, Session: token.Session}, nil
}

// login checks a password and returns the user's id. errNoUser, errBusy, *lockedError.
func (s *Service) login(ctx context.Context, username, password string) (string, error) {
	email, ok := normalEmail(username) // empty if invalid: no user's, which takes the same path as any other
	account := email
	if !ok {
		account = strings.ToLower(username)
	}
	failures, err := s.lockout.check(ctx, account)
	if err != nil {
		return "", err
	}
	id, hash, err := s.users.password(ctx, email)
	if err != nil && !errors.Is(err, errNoUser) {
		return "", fmt.Errorf("read the user: %w", err)
	}
	same, err := s.hasher.matches(ctx, hash, password)
	if err != nil {
		return "", err
	}
	if !same {
		if err := s.lockout.fail(ctx, account); err != nil {
			return "", err
		}
		return "", errNoUser
	}
	return id, s.lockout.succeed(ctx, account, failures)
}

// record adds the request's data to an event. An operation that is not recorded must not happen.
func (s *Service) record(ctx context.Context, e audit.Event) error {
	e.Time, e.Product, e.Namespace, e.RequestID = s.now().UTC(), s.options.Product, s.options.Namespace, server.RequestID(ctx)
	if ip := server.ClientIP(ctx); ip.IsValid() {
		e.IP = ip.String()
	}
	if p := auth.From(ctx); p != nil && e.User == "" {
		e.User, e.UserID = p.Name, p.ID
	}
	if e.User == "" {
		e.User = "anonymous"
	}
	err := s.audit.Record(ctx, e)
	if errors.Is(err, audit.ErrFull) {
		return api.Unavailable(5*time.Second, "the audit log is full; try again later")
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Action, err)
	}
	return nil
}

const (
	purgeEvery = time.Hour
	purgeBatch = 1000
)

// purge deletes expired rows.
func (s *Service) purge(ctx context.Context) {
	ticker := time.NewTicker(purgeEvery)
	defer ticker.Stop()
	for {
		if err := s.purgeOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "expired tokens were not deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Service) purgeOnce(ctx context.Context) error {
	for table, where := range map[string]string{
		"refresh_tokens":      "expires_at < now()",
		"authorization_codes": "expires_at < now() - interval '1 hour'",
		"sessions":            "expires_at < now() - interval '1 hour'",
		"login_failures":      "last_failure < now() - interval '1 hour'",
	} {
		for {
			tag, err := s.users.pool.Exec(ctx, "DELETE FROM "+table+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM "+table+" WHERE "+where+" LIMIT $1))", purgeBatch)
			if err != nil {
				return fmt.Errorf("purge %s: %w", table, err)
			}
			if tag.RowsAffected() < purgeBatch {
				break
			}
		}
	}
	return nil
}
