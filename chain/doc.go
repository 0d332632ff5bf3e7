// Package chain is the domain.
package chain

type nodeRef struct{}
