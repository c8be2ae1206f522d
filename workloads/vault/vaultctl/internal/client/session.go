// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// renewBefore is how long before its expiry a token is renewed.
const renewBefore = time.Minute

// Session is a login that lasts across runs of the program. Its file is readable only by the user.
type Session struct {
	Server       string    `json:"server"`
	AccessToken  string    `json:"accessToken"`
	RefreshToken string    `json:"refreshToken,omitempty"`
	ExpiresAt    time.Time `json:"expiresAt"`

	file string
}

// LoadSession reads a session file; a missing one is an empty session.
func LoadSession(file string) (*Session, error) {
	s := &Session{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the session: %w", err)
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read the session %s: %w", file, err)
	}
	return s, nil
}

// Take stores a granted token.
func (s *Session) Take(server string, t Token) error {
	s.Server, s.AccessToken, s.RefreshToken = server, t.AccessToken, t.RefreshToken
	s.ExpiresAt = time.Now().Add(time.Duration(t.ExpiresIn) * time.Second)
	data, err := json.Marshal(s) //nolint:gosec // G117: the session file is what holds the token, readable by its owner alone
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
		return fmt.Errorf("store the session: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(s.file), ".session-*") // mode 0600
	if err != nil {
		return fmt.Errorf("store the session: %w", err)
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // it was renamed
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), s.file)
	}
	if err != nil {
		return fmt.Errorf("store the session: %w", err)
	}
	return nil
}

// Token returns the access token for a server, renewed if it is about to expire.
func (s *Session) Token(ctx context.Context, server string) (string, error) {
	if s.AccessToken == "" || s.Server != server {
		return "", ErrLogin
	}
	if time.Until(s.ExpiresAt) > renewBefore {
		return s.AccessToken, nil
	}
	if s.RefreshToken == "" {
		return "", ErrLogin
	}
	c, err := New(server, nil)
	if err != nil {
		return "", err
	}
	t, err := c.Grant(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.RefreshToken}})
	var refused *Error
	if errors.As(err, &refused) && refused.Status < 500 {
		return "", fmt.Errorf("%w: %w", ErrLogin, err)
	}
	if err != nil {
		return "", err
	}
	if t.RefreshToken == "" {
		t.RefreshToken = s.RefreshToken
	}
	return t.AccessToken, s.Take(server, t)
}
