package daemon

import (
	"errors"
	"net"
)

// The states that systemd is told, see sd_notify(3).
const (
	NotifyReady    = "READY=1"
	NotifyStopping = "STOPPING=1"
)

// Notify sends state to the socket that systemd names in NOTIFY_SOCKET; an
// empty address does nothing. An address that begins with '@' is abstract.
func Notify(address, state string) error {
	if address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
