// HTTP/1.1 over SSLServerSocket, a thread a connection. Arguments: ADDRESS KEYSTORE ["engine"].
// Answers POST with 201, DELETE with 204, GET and HEAD of /invoices with 404, and else with 200; /large/SIZE with so many bytes.
// "engine": over SSLEngine, with bytes of a stream: its thread has read something else from a channel.
// Whenever a connection comes, all threads of the process are interrupted that are not its own.
import java.io.BufferedInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
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

  static byte[] answer(String start) {
    String[] words = start.split(" ");
    int status = words[1].startsWith("/invoices") ? 404 : words[0].equals("POST") ? 201 : words[0].equals("DELETE") ? 204 : 200;
    String body = status == 204 ? "" : "{\"state\": \"sent\"}";
    if (words[1].startsWith("/large/")) body = "x".repeat(Integer.parseInt(words[1].substring(7)));
    String head = "HTTP/1.1 " + status + " X\r\n" + (status == 204 ? "" : "Content-Length: " + body.length() + "\r\n") + "\r\n";
    return (head + (words[0].equals("HEAD") ? "" : body)).getBytes();
  }

  static void serve(SSLSocket socket) {
    try (socket; InputStream in = new BufferedInputStream(socket.getInputStream())) {
      OutputStream out = socket.getOutputStream();
      for (String start = readLine(in); start != null; start = readLine(in)) {
        int length = 0;
        for (String line = readLine(in); line != null && !line.isEmpty(); line = readLine(in))
          if (line.toLowerCase().startsWith("content-length:")) length = Integer.parseInt(line.substring(15).strip());
        in.readNBytes(length);
        out.write(answer(start));
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
    InetAddress address = InetAddress.getByName(arguments[0]);
    boolean isEngine = arguments.length > 2;
    ServerSocket listener = isEngine ? new ServerSocket(0, 9, address) : context.getServerSocketFactory().createServerSocket(0, 9, address);
    ServerSocketChannel database = ServerSocketChannel.open().bind(new InetSocketAddress(address, 0));
    System.out.printf("{\"event\": \"ready\", \"port\": %d, \"other\": %d}%n", listener.getLocalPort(), database.socket().getLocalPort());
    System.out.flush();
    while (true) {
      Socket socket = listener.accept();
      for (Thread one : Thread.getAllStackTraces().keySet()) if (one.getName().equals("apidae")) one.interrupt();
      new Thread(() -> {
        if (isEngine) serveByEngine(socket, context.createSSLEngine(), database);
        else serve((SSLSocket) socket);
      }).start();
    }
  }

  /** GET alone. */
  static void serveByEngine(Socket socket, SSLEngine engine, ServerSocketChannel database) {
    try (socket; SocketChannel other = SocketChannel.open(database.getLocalAddress()); SocketChannel end = database.accept()) {
      engine.setUseClientMode(false);
      ByteBuffer in = ByteBuffer.allocate(1 << 15), plain = ByteBuffer.allocate(1 << 15), out = ByteBuffer.allocate(1 << 15);
      StringBuilder text = new StringBuilder();
      while (true) {
        end.write(ByteBuffer.wrap(new byte[1]));
        other.read(ByteBuffer.allocate(1));
        SSLEngineResult.HandshakeStatus status = engine.getHandshakeStatus();
        if (status == SSLEngineResult.HandshakeStatus.NEED_TASK) engine.getDelegatedTask().run();
        else if (status == SSLEngineResult.HandshakeStatus.NEED_WRAP) send(socket, engine, ByteBuffer.allocate(0), out);
        else {
          SSLEngineResult result = engine.unwrap(in.flip(), plain.clear());
          in.compact();
          for (plain.flip(); plain.hasRemaining(); ) text.append((char) plain.get());
          for (int ends = text.indexOf("\r\n\r\n"); ends >= 0; ends = text.indexOf("\r\n\r\n")) {
            send(socket, engine, ByteBuffer.wrap(answer(text.substring(0, text.indexOf("\r")))), out);
            text.delete(0, ends + 4);
          }
          if (result.getStatus() == SSLEngineResult.Status.CLOSED) return;
          if (result.getStatus() != SSLEngineResult.Status.BUFFER_UNDERFLOW) continue;
          int size = socket.getInputStream().read(in.array(), in.position(), in.remaining());
          if (size < 0) return;
          in.position(in.position() + size);
        }
      }
    } catch (Exception ended) {
      // The client has gone.
    }
  }

  static void send(Socket socket, SSLEngine engine, ByteBuffer plain, ByteBuffer out) throws Exception {
    engine.wrap(plain, out.clear());
    socket.getOutputStream().write(out.array(), 0, out.position());
  }
}
