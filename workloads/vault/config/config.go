// SPDX-License-Identifier: Apache-2.0

// Package config is Vault's own part of its service's configuration.
package config

// Settings configure how Vault is unsealed, and the size of its files.
type Settings struct {
	// MaxFileBytes limits a File; 64 MiB if zero.
	MaxFileBytes int64 `json:"maxFileBytes,omitempty"`
	// Passphrase derives the root key; empty: PKCS11 unseals, or Shamir shares that are sent over REST.
	Passphrase string `json:"passphrase,omitempty"`
	// Shares and Threshold of Shamir's scheme, if there is no passphrase.
	Shares    int `json:"shares,omitempty"`
	Threshold int `json:"threshold,omitempty"`
	// PKCS11 is the key in an HSM that unseals, if any.
	PKCS11 *PKCS11 `json:"pkcs11,omitempty"`
}

// PKCS11 is one key of a PKCS #11 token.
type PKCS11 struct {
	Module     string `json:"module"` // path of the library in the image
	TokenLabel string `json:"tokenLabel"`
	KeyLabel   string `json:"keyLabel"`
	PIN        string `json:"pin"` // of the token's user
}
