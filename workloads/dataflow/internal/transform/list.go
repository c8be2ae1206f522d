// SPDX-License-Identifier: Apache-2.0

package transform

// All returns every transform type, in alphabetical order.
func All() []Spec {
	return []Spec{
		assignIDSpec(),
		castSpec(),
		compactSpec(),
		compressSpec(),
		decodeSpec(),
		decompressSpec(),
		dedupeSpec(),
		defaultSpec(),
		encodeSpec(),
		explodeSpec(),
		filterSpec(),
		flattenSpec(),
		hashSpec(),
		joinSpec(),
		lookupSpec(),
		mapSpec(),
		maskSpec(),
		mergeSpec(),
		metadataSpec(),
		parseSpec(),
		rateLimitSpec(),
		removeSpec(),
		renameSpec(),
		renameKeysSpec(),
		replaceSpec(),
		routeSpec(),
		sampleSpec(),
		selectSpec(),
		serializeSpec(),
		setSpec(),
		sortSpec(),
		splitSpec(),
		textSpec(),
		timestampSpec(),
		truncateSpec(),
		unflattenSpec(),
		unwrapSpec(),
		validateSpec(),
		wrapSpec(),
	}
}

var byType = func() map[string]Spec {
	index := map[string]Spec{}
	for _, spec := range All() {
		index[spec.Type] = spec
	}
	return index
}()

// Lookup finds a transform type by name.
func Lookup(kind string) (Spec, bool) {
	spec, ok := byType[kind]
	return spec, ok
}
