// HTTPS over a net.Conn of our own.
//
//	wrapped KIND PORT                   two requests, one after the other on connections that stay open
//	wrapped KIND serve CERTIFICATE KEY  a server, which prints its port
//
// KIND: embedded, pointer, hidden
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
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

// hidden has the connection where only its author knows, behind another one of its kind.
type hidden struct {
	since time.Time
	mutex sync.Mutex
	read  int64
	net.Conn
}

func (c *hidden) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.read += int64(n)
	return n, err
}

func wrap(connection net.Conn) net.Conn {
	switch os.Args[1] {
	case "pointer":
		return &pointer{TCPConn: connection.(*net.TCPConn)}
	case "hidden":
		now := time.Now()
		return &hidden{since: now, Conn: &hidden{since: now, Conn: connection}}
	}
	return &embedded{connection, time.Minute}
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return wrap(connection), nil
}

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrap(connection), nil
}

func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL.Path)
	})}
	panic(server.ServeTLS(listener{l}, os.Args[3], os.Args[4]))
}

func main() {
	if os.Args[2] == "serve" {
		serve()
	}
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
