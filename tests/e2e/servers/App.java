// The test application over Java's com.sun.net.httpserver; see tests/e2e/application.py for what it answers. Arguments: ADDRESS.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class App {
  static void answer(HttpExchange exchange, int status, String body) throws IOException {
    boolean isBodiless = body == null || exchange.getRequestMethod().equals("HEAD");
    if (body != null) exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(status, isBodiless ? -1 : body.length());
    if (!isBodiless) exchange.getResponseBody().write(body.getBytes());
    exchange.close();
  }

  static void serve(HttpExchange exchange) throws IOException {
    exchange.getRequestBody().readAllBytes();
    String path = exchange.getRequestURI().getPath(), method = exchange.getRequestMethod();
    if (path.equals("/orders") && method.equals("POST")) {
      answer(exchange, 201, "{\"number\": 1}");
    } else if (path.startsWith("/orders/") && method.equals("DELETE")) {
      answer(exchange, 204, null);
    } else if (path.startsWith("/orders/")) {
      answer(exchange, 200, "{\"state\": \"sent\"}");
    } else if (path.startsWith("/users/")) {
      answer(exchange, 304, null);
    } else if (path.equals("/events")) {
      exchange.sendResponseHeaders(200, 0); // No length: in chunks.
      for (int size : new int[] {1, 100, 5000}) exchange.getResponseBody().write("x".repeat(size).getBytes());
      exchange.close();
    } else {
      answer(exchange, 404, "{}");
    }
  }

  public static void main(String[] arguments) throws IOException {
    System.setProperty("sun.net.httpserver.nodelay", "true");
    HttpServer server = HttpServer.create(new InetSocketAddress(arguments[0], 0), 128);
    server.createContext("/", App::serve);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.start();
    System.out.printf("{\"event\": \"ready\", \"port\": %d}%n", server.getAddress().getPort());
    System.out.flush();
  }
}
