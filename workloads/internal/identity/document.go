// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api"
)

// document describes the endpoints that are not huma's.
func (s *Service) document(rest huma.API) {
	form := func(required []string, fields map[string]string) *huma.RequestBody {
		properties := map[string]*huma.Schema{}
		for name, description := range fields {
			properties[name] = &huma.Schema{Type: huma.TypeString, Description: description}
		}
		return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/x-www-form-urlencoded": {Schema: &huma.Schema{Type: huma.TypeObject, Properties: properties, Required: required}},
		}}
	}
	answer := func(description, contentType string, schema *huma.Schema) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{contentType: {Schema: schema}}}
	}
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	failure := &huma.Schema{Type: huma.TypeObject, Required: []string{"error"}, Properties: map[string]*huma.Schema{"error": text(), "error_description": text()}}
	add := func(method, path, id, summary string, body *huma.RequestBody, parameters []*huma.Param, responses map[string]*huma.Response, errs ...int) {
		for _, status := range errs {
			responses[strconv.Itoa(status)] = api.ErrorResponse(rest, status, failure)
		}
		rest.OpenAPI().AddOperation(&huma.Operation{OperationID: id, Method: method, Path: prefix + path, Summary: summary, Tags: []string{"identity"},
			Security: []map[string][]string{{}}, RequestBody: body, Parameters: parameters, Responses: responses})
	}
	tokens := &huma.Schema{Type: huma.TypeObject, Required: []string{"access_token", "token_type", "expires_in"}, Properties: map[string]*huma.Schema{
		"access_token": text(), "token_type": text(), "expires_in": {Type: huma.TypeInteger, Description: "seconds"}, "refresh_token": text(), "scope": text(),
	}}
	failures := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	add(http.MethodPost, "/token", "token", "Get tokens (OAuth 2: password, refresh_token, authorization_code)",
		form([]string{"grant_type"}, map[string]string{"grant_type": "password, refresh_token or authorization_code", "username": "of password: the email address",
			"password": "of password", "refresh_token": "of refresh_token", "code": "of authorization_code", "redirect_uri": "of authorization_code",
			"code_verifier": "of authorization_code: PKCE's", "client_id": DefaultClient + " when missing", "client_secret": "of confidential clients"}),
		nil, map[string]*huma.Response{"200": answer("Tokens", "application/json", tokens)}, failures...)
	add(http.MethodPost, "/revoke", "revoke", "End the session of a token (RFC 7009)",
		form([]string{"token"}, map[string]string{"token": "a refresh or an access token", "token_type_hint": "refresh_token or access_token",
			"client_id": DefaultClient + " when missing", "client_secret": "of confidential clients"}),
		nil, map[string]*huma.Response{"200": {Description: "The session has ended, or there was none"}}, failures...)

	var query []*huma.Param
	for _, name := range []string{"response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"} {
		query = append(query, &huma.Param{Name: name, In: "query", Required: name != "redirect_uri", Schema: text()})
	}
	login := func() map[string]*huma.Response {
		return map[string]*huma.Response{
			"200": answer("The login page", "text/html", text()), "303": {Description: "To the client, with a code or an error"},
		}
	}
	add(http.MethodGet, "/authorize", "authorize", "Log in for a client (OAuth 2: authorization code with PKCE, S256)", nil, query, login(), failures...)
	add(http.MethodPost, "/authorize", "authorize-login", "Log in on the page that GET returned",
		form([]string{"username", "password"}, map[string]string{"username": "the email address", "password": ""}), query, login(), failures...)
	add(http.MethodGet, "/jwks", "jwks", "The public keys that tokens are signed with",
		nil, nil, map[string]*huma.Response{"200": answer("JSON Web Key Set", "application/json", &huma.Schema{Type: huma.TypeObject,
			Required: []string{"keys"}, Properties: map[string]*huma.Schema{"keys": {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}}})},
		failures...)
}
