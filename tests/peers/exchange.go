// One HTTPS exchange, as server or as client, by crypto/tls alone.
//
//	exchange serve CERTIFICATE KEY      prints its port
//	exchange get PORT PATH              prints the body
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

const body = "{\"hello\":\"world\"}\n"

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	request := make([]byte, 4096)
	if _, err := connection.Read(request); err == nil {
		fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func main() {
	if os.Args[1] == "get" {
		connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[2], &tls.Config{InsecureSkipVerify: true})
		check(err)
		_, err = fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", os.Args[3])
		check(err)
		response, err := io.ReadAll(connection)
		check(err)
		fmt.Print(strings.SplitN(string(response), "\r\n\r\n", 2)[1])
		return
	}
	certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	check(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		check(err)
		go serve(connection)
	}
}
