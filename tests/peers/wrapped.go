// Two HTTPS requests, one after the other on connections that stay open, over a net.Conn of our own.
//
//	wrapped KIND PORT      KIND: embedded, pointer
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// embedded is how most programs wrap a connection: an interface, and a setting.
type embedded struct {
	net.Conn
	timeout time.Duration
}

func (c *embedded) Read(b []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(c.timeout))
	return c.Conn.Read(b)
}

// pointer embeds the connection itself.
type pointer struct {
	*net.TCPConn
	read int64
}

func (c *pointer) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.read += int64(n)
	return n, err
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if os.Args[1] == "pointer" {
		return &pointer{TCPConn: connection.(*net.TCPConn)}, nil
	}
	return &embedded{connection, time.Minute}, nil
}

func main() {
	for _, path := range []string{"/first", "/second"} {
		client := http.Client{Transport: &http.Transport{
			DialContext:     dial,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
		response, err := client.Get("https://127.0.0.1:" + os.Args[2] + path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		body, _ := io.ReadAll(response.Body)
		fmt.Print(string(body))
	}
}
