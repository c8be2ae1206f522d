// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ory/fosite"
)

// oauthStore is fosite's storage. Access tokens are not stored: their session is.
type oauthStore struct {
	pool    *pgxpool.Pool
	clients map[string]*fosite.DefaultClient
	changes *changes
	// login checks a password and returns the user's id.
	login func(ctx context.Context, username, password string) (string, error)
}

// stored is a request as JSON.
type stored struct {
	ID          string                 `json:"id"`
	RequestedAt time.Time              `json:"requestedAt"`
	Client      string                 `json:"client"`
	Form        url.Values             `json:"form,omitempty"`
	Session     *fosite.DefaultSession `json:"session"`
}

func freeze(r fosite.Requester) ([]byte, error) {
	session, ok := r.GetSession().(*fosite.DefaultSession)
	if !ok {
		return nil, fmt.Errorf("a session of type %T", r.GetSession())
	}
	return json.Marshal(stored{r.GetID(), r.GetRequestedAt(), r.GetClient().GetID(), r.GetRequestForm(), session})
}

// thaw fills session, if there is one, as fosite's handlers expect.
func (s *oauthStore) thaw(data []byte, session fosite.Session) (*fosite.Request, error) {
	var was stored
	if err := json.Unmarshal(data, &was); err != nil {
		return nil, fmt.Errorf("read a stored request: %w", err)
	}
	client, ok := s.clients[was.Client]
	if !ok { // it is no longer in the settings
		return nil, fosite.ErrNotFound
	}
	if was.Session == nil {
		return nil, errors.New("a stored request has no session")
	}
	was.Session.Username = was.ID // for the audit log, if fosite drops the rest
	r := fosite.NewRequest()
	r.ID, r.RequestedAt, r.Client, r.Form, r.Session = was.ID, was.RequestedAt, client, was.Form, was.Session
	if given, ok := session.(*fosite.DefaultSession); ok && given != nil {
		// Codes are read twice: decisions made in between are kept.
		for kind, at := range given.ExpiresAt {
			was.Session.SetExpiresAt(kind, at)
		}
		*given = *was.Session
		r.Session = given
	}
	return r, nil
}

type transaction struct{}

// sql returns the context's transaction, or the pool.
func (s *oauthStore) sql(ctx context.Context) interface {
	queryer
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
} {
	if tx, ok := ctx.Value(transaction{}).(pgx.Tx); ok {
		return tx
	}
	return s.pool
}

// BeginTX implements storage.Transactional.
func (s *oauthStore) BeginTX(ctx context.Context) (context.Context, error) {
	tx, err := s.pool.Begin(ctx)
	return context.WithValue(ctx, transaction{}, tx), err
}

// Commit implements storage.Transactional.
func (s *oauthStore) Commit(ctx context.Context) error {
	return ctx.Value(transaction{}).(pgx.Tx).Commit(ctx)
}

// Rollback implements storage.Transactional.
func (s *oauthStore) Rollback(ctx context.Context) error {
	if err := ctx.Value(transaction{}).(pgx.Tx).Rollback(context.WithoutCancel(ctx)); !errors.Is(err, pgx.ErrTxClosed) {
		return err
	}
	return nil
}

// GetClient implements fosite.ClientManager.
func (s *oauthStore) GetClient(_ context.Context, id string) (fosite.Client, error) {
	if c, ok := s.clients[id]; ok {
		return c, nil
	}
	return nil, fosite.ErrNotFound
}

// ClientAssertionJWTValid implements fosite.ClientManager: no client authenticates by a JWT.
func (s *oauthStore) ClientAssertionJWTValid(context.Context, string) error {
	return fosite.ErrJTIKnown
}

// SetClientAssertionJWT implements fosite.ClientManager.
func (s *oauthStore) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return fosite.ErrJTIKnown
}

// Authenticate implements oauth2.ResourceOwnerPasswordCredentialsGrantStorage.
func (s *oauthStore) Authenticate(ctx context.Context, name, secret string) (string, error) {
	id, err := s.login(ctx, name, secret)
	if errors.Is(err, errNoUser) {
		return "", fosite.ErrNotFound
	}
	return id, err
}

// CreateAccessTokenSession creates the session that the token names, or extends it.
func (s *oauthStore) CreateAccessTokenSession(ctx context.Context, _ string, r fosite.Requester) error {
	expires := r.GetSession().GetExpiresAt(fosite.RefreshToken)
	if access := r.GetSession().GetExpiresAt(fosite.AccessToken); access.After(expires) {
		expires = access
	}
	_, err := s.sql(ctx).Exec(ctx, `INSERT INTO sessions AS s (id, user_id, client_id, expires_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET expires_at = greatest(s.expires_at, excluded.expires_at)`,
		r.GetID(), r.GetSession().GetSubject(), r.GetClient().GetID(), expires)
	return err
}

// GetAccessTokenSession finds the session by its id, which our strategy uses as a token's signature.
func (s *oauthStore) GetAccessTokenSession(ctx context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	if signature == "" {
		return nil, fosite.ErrNotFound
	}
	var client string
	err := s.sql(ctx).QueryRow(ctx, "SELECT client_id FROM sessions WHERE id = $1", signature).Scan(&client)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && s.clients[client] == nil) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := fosite.NewRequest()
	r.ID, r.Client = signature, s.clients[client]
	return r, nil
}

// DeleteAccessTokenSession implements oauth2.AccessTokenStorage; sessions are revoked instead.
func (s *oauthStore) DeleteAccessTokenSession(context.Context, string) error { return nil }

// CreateRefreshTokenSession implements oauth2.RefreshTokenStorage.
func (s *oauthStore) CreateRefreshTokenSession(ctx context.Context, signature, _ string, r fosite.Requester) error {
	data, err := freeze(r)
	if err != nil {
		return err
	}
	_, err = s.sql(ctx).Exec(ctx, "INSERT INTO refresh_tokens (signature, session_id, request, expires_at) VALUES ($1, $2, $3, $4)",
		signature, r.GetID(), data, r.GetSession().GetExpiresAt(fosite.RefreshToken))
	return err
}

// GetRefreshTokenSession returns ErrInactiveToken, with the request, for a token that was used or revoked.
func (s *oauthStore) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	var data []byte
	var inactive bool
	err := s.sql(ctx).QueryRow(ctx, `SELECT t.request, t.used_at IS NOT NULL OR s.revoked_at IS NOT NULL FROM refresh_tokens t
		JOIN sessions s ON s.id = t.session_id WHERE t.signature = $1 AND t.expires_at > now()`, signature).Scan(&data, &inactive)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r, err := s.thaw(data, session)
	if err != nil {
		return nil, err
	}
	if inactive {
		return r, fosite.ErrInactiveToken
	}
	return r, nil
}

// DeleteRefreshTokenSession keeps the token, so that its next use is detected.
func (s *oauthStore) DeleteRefreshTokenSession(context.Context, string) error { return nil }

// RotateRefreshToken marks a token as used; ErrInactiveToken if another request was faster, or the session ended. The
// session's row is locked, so that requests of one session take turns.
func (s *oauthStore) RotateRefreshToken(ctx context.Context, session, signature string) error {
	var alive bool
	err := s.sql(ctx).QueryRow(ctx, "SELECT revoked_at IS NULL FROM sessions WHERE id = $1 FOR UPDATE", session).Scan(&alive)
	if err != nil {
		return err
	}
	tag, err := s.sql(ctx).Exec(ctx, "UPDATE refresh_tokens SET used_at = now() WHERE signature = $1 AND used_at IS NULL", signature)
	if err == nil && (!alive || tag.RowsAffected() == 0) {
		err = fosite.ErrInactiveToken
	}
	return err
}

// RevokeRefreshToken ends the session: its refresh tokens and its access tokens.
func (s *oauthStore) RevokeRefreshToken(ctx context.Context, session string) error {
	_, err := s.sql(ctx).Exec(ctx, "UPDATE sessions SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", session)
	if err == nil {
		s.changes.revoke(session)
	}
	return err
}

// RevokeAccessToken does the same.
func (s *oauthStore) RevokeAccessToken(ctx context.Context, session string) error {
	return s.RevokeRefreshToken(ctx, session)
}

// CreateAuthorizeCodeSession implements oauth2.AuthorizeCodeStorage.
func (s *oauthStore) CreateAuthorizeCodeSession(ctx context.Context, signature string, r fosite.Requester) error {
	data, err := freeze(r)
	if err != nil {
		return err
	}
	_, err = s.sql(ctx).Exec(ctx, "INSERT INTO authorization_codes (signature, request, expires_at) VALUES ($1, $2, $3)",
		signature, data, r.GetSession().GetExpiresAt(fosite.AuthorizeCode))
	return err
}

// GetAuthorizeCodeSession implements oauth2.AuthorizeCodeStorage.
func (s *oauthStore) GetAuthorizeCodeSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	var data []byte
	var used bool
	err := s.sql(ctx).QueryRow(ctx, "SELECT request, used_at IS NOT NULL FROM authorization_codes WHERE signature = $1 AND expires_at > now()", signature).
		Scan(&data, &used)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r, err := s.thaw(data, session)
	if err != nil {
		return nil, err
	}
	if used {
		return r, fosite.ErrInvalidatedAuthorizeCode
	}
	return r, nil
}

// InvalidateAuthorizeCodeSession lets a code be used only once, also concurrently.
func (s *oauthStore) InvalidateAuthorizeCodeSession(ctx context.Context, signature string) error {
	tag, err := s.sql(ctx).Exec(ctx, "UPDATE authorization_codes SET used_at = now() WHERE signature = $1 AND used_at IS NULL", signature)
	if err == nil && tag.RowsAffected() == 0 {
		err = fosite.ErrInvalidatedAuthorizeCode
	}
	return err
}

// CreatePKCERequestSession stores the challenge with the code.
func (s *oauthStore) CreatePKCERequestSession(ctx context.Context, signature string, r fosite.Requester) error {
	data, err := freeze(r)
	if err == nil {
		_, err = s.sql(ctx).Exec(ctx, "UPDATE authorization_codes SET pkce = $2 WHERE signature = $1", signature, data)
	}
	return err
}

// GetPKCERequestSession implements pkce.PKCERequestStorage.
func (s *oauthStore) GetPKCERequestSession(ctx context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	var data []byte
	err := s.sql(ctx).QueryRow(ctx, "SELECT pkce FROM authorization_codes WHERE signature = $1 AND pkce IS NOT NULL", signature).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return s.thaw(data, nil)
}

// DeletePKCERequestSession allows one attempt with a verifier.
func (s *oauthStore) DeletePKCERequestSession(ctx context.Context, signature string) error {
	_, err := s.sql(ctx).Exec(ctx, "UPDATE authorization_codes SET pkce = NULL WHERE signature = $1", signature)
	return err
}
