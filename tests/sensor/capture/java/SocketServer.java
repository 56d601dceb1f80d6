// HTTP/1.1 over SSLServerSocket, a thread a connection. Arguments: ADDRESS KEYSTORE.
// Answers POST with 201, DELETE with 204, GET and HEAD of /invoices with 404, and else with 200.
import java.io.BufferedInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

public class SocketServer {
  static String readLine(InputStream in) throws Exception {
    StringBuilder line = new StringBuilder();
    for (int one = in.read(); one >= 0; one = in.read()) {
      if (one == '\n') return line.toString().strip();
      line.append((char) one);
    }
    return null;
  }

  static void serve(SSLSocket socket) {
    try (socket; InputStream in = new BufferedInputStream(socket.getInputStream())) {
      OutputStream out = socket.getOutputStream();
      for (String start = readLine(in); start != null; start = readLine(in)) {
        int length = 0;
        for (String line = readLine(in); line != null && !line.isEmpty(); line = readLine(in))
          if (line.toLowerCase().startsWith("content-length:")) length = Integer.parseInt(line.substring(15).strip());
        in.readNBytes(length);
        String[] words = start.split(" ");
        int status = words[1].startsWith("/invoices") ? 404 : words[0].equals("POST") ? 201 : words[0].equals("DELETE") ? 204 : 200;
        String body = status == 204 ? "" : "{\"state\": \"sent\"}";
        String head = "HTTP/1.1 " + status + " X\r\n" + (status == 204 ? "" : "Content-Length: " + body.length() + "\r\n") + "\r\n";
        out.write((head + (words[0].equals("HEAD") ? "" : body)).getBytes());
      }
    } catch (Exception ended) {
      // The client has gone.
    }
  }

  public static void main(String[] arguments) throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream file = Files.newInputStream(Path.of(arguments[1]))) {
      store.load(file, "secret".toCharArray());
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store, "secret".toCharArray());
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    var listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 9, InetAddress.getByName(arguments[0]));
    System.out.printf("{\"event\": \"ready\", \"port\": %d}%n", listener.getLocalPort());
    System.out.flush();
    while (true) {
      SSLSocket socket = (SSLSocket) listener.accept();
      new Thread(() -> serve(socket)).start();
    }
  }
}
